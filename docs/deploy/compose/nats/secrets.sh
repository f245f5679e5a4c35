#!/bin/sh
# Makes a password for each role of accounts.conf, unless the role has one: in the file `password` for the
# program with this role, and in `nats.conf` for nats-server. Each role's folder is a volume of its own, so a
# program sees only its own password.
set -eu
umask 077

made=0 kept=0
for role in ingest query admin publisher operator routes; do
  folder=/secrets/$role
  # `password` is written last: if it exists, all files of the role exist.
  if [ -s "$folder/password" ]; then
    kept=$((kept + 1))
    continue
  fi
  password=$(head -c 2048 /dev/urandom | tr -dc A-Za-z0-9 | head -c 40)
  [ ${#password} -eq 40 ]
  case $role in
    routes)
      for server in 1 2 3; do
        echo "ROUTE_$server: \"nats://routes:$password@cluster-nats-$server:6222\""
      done
      echo "ROUTES_PASSWORD: \"$password\""
      ;;
    *)
      name=$(echo "$role" | tr a-z A-Z)
      echo "${name}_PASSWORD: \"$password\""
      ;;
  esac > "$folder/nats.conf"
  echo "$password" > "$folder/password.new"
  mv "$folder/password.new" "$folder/password"
  made=$((made + 1))
done
echo "passwords: $made made, $kept there already"
