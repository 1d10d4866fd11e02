# The image of one service: `docker build --build-arg SERVICE=auth .`, likewise booking and notification; with traces:
# `docker build --build-arg SERVICE=auth --build-arg OPENTELEMETRY=1 .`
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG SERVICE
# Not empty: the image can send traces to a collector.
ARG OPENTELEMETRY=
WORKDIR /srv
COPY requirements/${SERVICE}.txt requirements.txt
COPY requirements/opentelemetry.txt opentelemetry.txt
# Python compiles here, because the running container's file system is read-only.
RUN python -m venv --without-pip venv \
    && python -m pip --python venv/bin/python install --no-cache-dir --require-hashes --requirement requirements.txt \
        ${OPENTELEMETRY:+--requirement opentelemetry.txt} \
    && rm requirements.txt opentelemetry.txt
COPY services/__init__.py services/__init__.py
COPY services/kit services/kit
COPY services/contracts services/contracts
COPY services/${SERVICE} services/${SERVICE}
RUN python -m compileall -q services \
    && printf '#!/bin/sh\nexec python -m services.%s "$@"\n' "${SERVICE}" >venv/bin/service \
    && chmod 755 venv/bin/service \
    && venv/bin/python -m "services.${SERVICE}" --help >/dev/null

# hadolint ignore=DL3006
FROM ${BASE_IMAGE}
# A service needs no package installer; an intruder would.
RUN find /usr -depth \( -name 'pip*' -o -name ensurepip \) \( -path '*/bin/*' -o -path '*/python*' \) -exec rm -rf {} +
COPY --from=build /srv /srv
WORKDIR /srv
ENV PATH=/srv/venv/bin:$PATH HOST=0.0.0.0 PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1
USER 10001:10001
EXPOSE 8000 9000
STOPSIGNAL SIGTERM
ENTRYPOINT ["service"]
CMD ["serve"]
# Last, so that a new version or revision leaves the layers above as they are.
ARG SERVICE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="booking-platform ${SERVICE}" \
      org.opencontainers.image.description="The ${SERVICE} service of the booking platform" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT"
