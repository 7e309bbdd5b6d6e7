#!/bin/sh
# Start the stack of docker-compose.yml, show what the application printed, and leave with its exit
# code. The stack stays up. Takes `docker compose`, or else `docker-compose`.
set -eu
cd "$(dirname "$0")/.."

if docker compose version >/dev/null 2>&1; then
  compose="docker compose"
elif command -v docker-compose >/dev/null 2>&1; then
  compose="docker-compose"
else
  echo "make up: error: neither 'docker compose' nor 'docker-compose' is installed" >&2
  echo "make up: hint: install Docker with Compose, or try make demo, which needs neither" >&2
  exit 1
fi
if ! docker version >/dev/null 2>&1; then
  echo "make up: error: the Docker engine does not answer" >&2
  echo "make up: hint: start it, or set DOCKER_HOST to where it listens" >&2
  exit 1
fi

# The containers read these files as users of their own, also where the umask of the clone was 077.
chmod -R go+rX docker

# A second `make up` shows the rows of its own run only.
$compose rm --stop --force app >/dev/null 2>&1 || true
if ! $compose up --build --detach; then
  $compose logs --tail=20
  echo "make up: error: the stack did not come up" >&2
  echo "make up: hint: its last log lines are above; stop it with: $compose down --volumes" >&2
  exit 1
fi

app=$($compose ps --all --quiet app)
docker logs --follow "$app"
code=$(docker wait "$app")
echo
echo "The application ended with exit code $code. The stack is still up:"
echo "  again   $compose run --rm app"
echo "  logs    $compose logs --follow relay hcm app-client"
echo "  stop    $compose down --volumes"
exit "$code"
