FROM python:3.13-slim AS base

FROM base AS build
WORKDIR /build
COPY pyproject.toml setup.py README.md LICENSE ./
COPY src src
RUN --mount=type=cache,target=/root/.cache/pip \
    pip wheel --wheel-dir /wheels .

FROM base
RUN --mount=type=bind,from=build,source=/wheels,target=/wheels \
    pip install --no-cache-dir --no-index --find-links /wheels /wheels/allocation-*.whl \
    && useradd --uid 10001 --create-home --shell /usr/sbin/nologin allocation
# A number, so that an orchestrator can see that it is not root.
USER 10001:10001
WORKDIR /home/allocation
ENV HOST=0.0.0.0 PORT=5005
EXPOSE 5005
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s \
    CMD ["python", "-c", "import os, urllib.request as http; http.urlopen(f'http://127.0.0.1:{os.environ[\"PORT\"]}/healthz', timeout=4)"]
ENTRYPOINT ["allocation"]
CMD ["serve"]
