# One image with every command: hybridge-relay, hcm, app-client and hybridge.
#
#   docker build --tag hybridge .
#   docker run --rm hybridge hcm --help
#
# The target `app` adds a PostgreSQL driver and the sample application of docker-compose.yml.

FROM python:3.11-slim AS packages
# Wheels only: no compiler is needed here, and none gets into the images below.
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore PYTHONDONTWRITEBYTECODE=1
RUN python -m venv --without-pip /opt/hybridge
WORKDIR /src
COPY . .
RUN python -m pip --python /opt/hybridge install --quiet --constraint constraints.txt ".[fast]"

FROM packages AS app-packages
RUN python -m pip --python /opt/hybridge install --quiet --constraint constraints.txt "psycopg[binary]"
# Readable by every user, whatever the umask of the clone was.
RUN install -m 0644 docker/app.py /opt/app.py

FROM python:3.11-slim AS runtime
# A fixed user id, so that volumes keep their owner from one image to the next.
RUN groupadd --gid 10001 hybridge \
 && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin hybridge \
 && install -d -o 10001 -g 10001 -m 0700 /var/lib/hybridge /run/hybridge
# /var/lib/hybridge is then where relay and hcm keep their state, unless they are told otherwise.
ENV XDG_STATE_HOME=/var/lib
ENV PATH=/opt/hybridge/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
WORKDIR /
USER 10001:10001

FROM runtime AS app
COPY --from=app-packages /opt/hybridge /opt/hybridge
COPY --from=app-packages /opt/app.py /opt/app.py
CMD ["python", "/opt/app.py"]

FROM runtime AS programs
COPY --from=packages /opt/hybridge /opt/hybridge
CMD ["hybridge-relay", "--help"]
