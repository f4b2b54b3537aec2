# The worker image: `docker run IMAGE key=value …` (see docs/guides/docker.md).
ARG BASE=docker.io/library/debian:bookworm-slim
FROM ${BASE}

# s3fs and fusermount only serve containers that mount by themselves; a bind-mounted /s3-mount
# needs neither privileges nor /dev/fuse.
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        ca-certificates fuse python3 python3-venv s3fs tini \
    && rm -rf /var/lib/apt/lists/*

# allow_other lets the unprivileged user of this image mount for itself and its children.
RUN sed -i 's/^#user_allow_other/user_allow_other/' /etc/fuse.conf \
    && useradd --uid 1000 --user-group --create-home --home-dir /home/lightly lightly \
    && mkdir -p /home/input_dir /home/shared_dir /home/output_dir /s3-mount /s3-out \
    && chown lightly:lightly /home/shared_dir /home/output_dir /s3-mount /s3-out

ENV VIRTUAL_ENV=/opt/lightly-fs \
    PATH=/opt/lightly-fs/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1

# Dependencies first: they change less often than the program.
WORKDIR /src
COPY pyproject.toml constraints.txt ./
RUN python3 -m venv "$VIRTUAL_ENV" \
    && python -c 'import tomllib; p = tomllib.load(open("pyproject.toml", "rb"))["project"]; \
extras = p["optional-dependencies"]; \
print(*p["dependencies"], *extras["openvino"], *extras["train"], sep="\n")' >requirements.txt \
    && pip install --no-cache-dir --disable-pip-version-check -q \
        -r requirements.txt hatchling -c constraints.txt

COPY . .
RUN pip install --no-cache-dir --disable-pip-version-check -q --no-deps --no-build-isolation . \
    && cp -r mount "$VIRTUAL_ENV/mount" \
    && cd / && rm -rf /src \
    && python -m compileall -q "$VIRTUAL_ENV/lib"/python3*/site-packages/lightly_fs

# What a first run would make: the converted bundled model and numba's compiled kernels.
ENV NUMBA_CACHE_DIR=/home/lightly/.cache/numba
WORKDIR /home/lightly
USER lightly
ENTRYPOINT ["tini", "-g", "--", "/opt/lightly-fs/mount/entrypoint.sh"]
