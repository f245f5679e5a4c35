# The images of botstats: targets `ingest`, `query`, `cli` and `nats`. docker-compose.yml builds all of them.
#
#   docker build --target query -t botstats-query .
#
# Each of the first three images holds one static program and nothing else: no shell, no package, and no user
# but 65532. BINARIES says where the programs come from: `source` compiles them here, `prebuilt` takes the
# programs in target/image. The build needs BuildKit, which Docker uses by default since version 23.
ARG BINARIES=source
ARG RUST_IMAGE=rust:1.95-slim-trixie
ARG NATS_IMAGE=nats:2.15.1-alpine

FROM ${RUST_IMAGE} AS build
WORKDIR /src
COPY . .
# The caches keep the compiled dependencies, so after a change of the sources only the sources are compiled.
# `--target` is set so that macros, which cannot be static, are compiled without the flags for static programs.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    host="$(rustc -vV | sed -n 's/^host: //p')" \
 && RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$host" \
      -p botstats -p botstats-ingest -p botstats-query --bins \
 && mkdir /out \
 && for program in botstats botstats-ingest botstats-query; do \
      strip -o "/out/$program" "target/$host/release/$program"; done

FROM scratch AS binaries-source
COPY --from=build /out/ /

FROM scratch AS binaries-prebuilt
COPY target/image/ /

FROM binaries-${BINARIES} AS binaries

FROM scratch AS ingest
COPY --from=binaries /botstats-ingest /
USER 65532:65532
# Makes the folder as user 65532: a new volume mounted here takes its owner from this folder.
WORKDIR /data
# With this setting of glibc's allocator ingest takes about a tenth less CPU time (docs/performance.md).
ENV BOTSTATS_DATA=/data GLIBC_TUNABLES=glibc.malloc.mxfast=0
VOLUME /data
ENTRYPOINT ["/botstats-ingest"]
# An ingest that counts a whole stream counts as starting for up to 24 h: services that depend on it wait.
HEALTHCHECK --interval=2s --timeout=3s --start-period=24h CMD ["/botstats-ingest", "healthcheck"]

FROM scratch AS query
COPY --from=binaries /botstats-query /
USER 65532:65532
# All addresses of IPv4 and IPv6; on a system without IPv6, all addresses of IPv4.
ENV BOTSTATS_HTTP_ADDR=[::]:8080
EXPOSE 8080
ENTRYPOINT ["/botstats-query"]
HEALTHCHECK --interval=2s --timeout=3s --start-period=60s CMD ["/botstats-query", "healthcheck"]

FROM scratch AS cli
COPY --from=binaries /botstats /
USER 65532:65532
ENTRYPOINT ["/botstats"]

# nats-server with the rights of each role, and the script that makes their passwords.
FROM ${NATS_IMAGE} AS nats
COPY docs/deploy/compose/nats/ /etc/botstats/
# For cells: the same accounts with the mapping of slots, and with rights on more streams.
RUN mkdir /etc/botstats-cells \
 && cp /etc/botstats/cells.conf /etc/botstats-cells/ \
 && sed -f /etc/botstats/cells.sed /etc/botstats/accounts.conf > /etc/botstats-cells/accounts.conf
RUN for role in ingest query admin publisher operator routes; do mkdir -p "/secrets/$role"; done \
 && mkdir -p /data && chown -R 65532:65532 /data /secrets
USER 65532:65532
ENTRYPOINT ["nats-server"]
CMD ["-c", "/etc/botstats/server.conf"]
