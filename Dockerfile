# The image of one service: `docker build --build-arg SERVICE=auth .`, likewise booking and notification; with traces:
# `docker build --build-arg SERVICE=auth --build-arg OPENTELEMETRY=1 .`; behind a proxy or mirror whose certificate a company's
# own authority signed: `docker build --build-arg SERVICE=auth --secret id=ca,src=ca.pem .` (docs/kubernetes.md)
ARG BASE_IMAGE=python:3.13-slim

FROM ${BASE_IMAGE} AS build
ARG SERVICE
# Not empty: the image can send traces to a collector.
ARG OPENTELEMETRY=
WORKDIR /srv
COPY requirements/${SERVICE}.txt requirements.txt
COPY requirements/opentelemetry.txt opentelemetry.txt
# The secret is a file during this step only. Without it, and with an empty one, pip trusts the public authorities.
# Python compiles here, because the running container's file system is read-only.
RUN --mount=type=secret,id=ca \
    if [ -s /run/secrets/ca ]; then export PIP_CERT=/run/secrets/ca; fi \
    && python -m venv --without-pip venv \
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
