#!/bin/sh
# Makes a password for each role of accounts.conf, unless the role has one: in the file `password` for the
# program with this role. The file `nats.conf` beside it is for nats-server, and is written at each start. Each
# role's folder is a volume of its own, so a program sees only its own password.
set -eu
umask 077

made=0 kept=0
for role in ingest query admin publisher operator routes; do
  folder=/secrets/$role
  if [ -s "$folder/password" ]; then
    password=$(cat "$folder/password")
    kept=$((kept + 1))
  else
    password=$(head -c 2048 /dev/urandom | tr -dc A-Za-z0-9 | head -c 40)
    [ ${#password} -eq 40 ]
    echo "$password" > "$folder/password.new"
    mv "$folder/password.new" "$folder/password"
    made=$((made + 1))
  fi
  name=$(echo "$role" | tr a-z A-Z)
  echo "${name}_PASSWORD: \"$password\"" > "$folder/nats.conf.new"
  if [ "$role" = routes ]; then
    # A variable that nothing refers to is an error, so each cluster has a file of its own.
    for cluster in cluster cells; do
      {
        for server in 1 2 3; do
          echo "ROUTE_$server: \"nats://routes:$password@$cluster-nats-$server:6222\""
        done
        cat "$folder/nats.conf.new"
      } > "$folder/$cluster.conf.new"
      mv "$folder/$cluster.conf.new" "$folder/$cluster.conf"
    done
  fi
  mv "$folder/nats.conf.new" "$folder/nats.conf"
done
echo "passwords: $made made, $kept there already"
