# All arguments have defaults that work where docker.io, gcr.io, Debian and crates.io can be reached;
# deploy/compose/README.md describes mirrors.
# Both have the same release of Debian, as the program uses the libc of its base.
ARG RUST_IMAGE=docker.io/library/rust:1.95-trixie
ARG BASE_IMAGE=gcr.io/distroless/cc-debian13:nonroot

# Runs on the platform of the builder and compiles for the requested one.
FROM --platform=$BUILDPLATFORM $RUST_IMAGE AS build
ARG BUILDARCH
ARG TARGETARCH
ARG CRATES_MIRROR=
# These two are used only if the platforms differ.
ARG DEBIAN_MIRROR=http://deb.debian.org
ARG RUSTUP_DIST_SERVER=https://static.rust-lang.org
ENV CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc \
    CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER=x86_64-linux-gnu-gcc
WORKDIR /src
# The compilers of another platform have the versions of its Debian.
# hadolint ignore=DL3008
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) target=x86_64-unknown-linux-gnu ;; \
        arm64) target=aarch64-unknown-linux-gnu ;; \
        *) echo "no target of Rust is known for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    if [ "$TARGETARCH" != "$BUILDARCH" ]; then \
        sed -i "s|http://deb.debian.org|$DEBIAN_MIRROR|" /etc/apt/sources.list.d/debian.sources; \
        apt-get update; \
        apt-get install --yes --no-install-recommends "crossbuild-essential-$TARGETARCH"; \
    fi; \
    rustup target add "$target"; \
    printf '[build]\ntarget = "%s"\n' "$target" >/config.toml; \
    if [ -n "$CRATES_MIRROR" ]; then \
        printf '[source.crates-io]\nreplace-with = "mirror"\n[source.mirror]\nregistry = "%s"\n' "$CRATES_MIRROR" \
            >>/config.toml; \
    fi; \
    mkdir /data

# The dependencies alone: they stay as they are while only the sources change. Cargo.toml names the
# benches, so they have to exist.
COPY Cargo.toml Cargo.lock ./
COPY benches benches
RUN mkdir src && touch src/lib.rs \
    && echo 'fn main() {}' >build.rs && cp build.rs src/main.rs \
    && cargo --config /config.toml build --release --locked

COPY build.rs ./
COPY templates templates
COPY src src
ARG REVISION=unknown
# Cargo compares times, and the stubs above are newer than the sources.
RUN touch build.rs src/lib.rs src/main.rs \
    && BUILD_REVISION="$REVISION" cargo --config /config.toml build --release --locked \
    && cp target/*/release/wxapp-portrait-exporter /

FROM $BASE_IMAGE AS base
ARG REVISION=unknown
LABEL org.opencontainers.image.title="wxapp-portrait-exporter" \
      org.opencontainers.image.description="Prometheus exporter for the user portraits of WeChat mini programs" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="0.2.0" \
      org.opencontainers.image.revision="$REVISION"
# wxapp-portrait.yml is looked for here.
WORKDIR /etc/wxapp-portrait
# As a number, for Kubernetes to see that it is not root.
USER 65532:65532
EXPOSE 10690
# It responds once it has read the archive.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5m CMD ["/usr/bin/wxapp-portrait-exporter", "healthcheck"]
ENTRYPOINT ["/usr/bin/wxapp-portrait-exporter"]
CMD ["--storage.path=/data"]

# Packs a program that was compiled elsewhere, next to an empty directory and certificates of authorities,
# which other bases lack.
FROM base AS binary
COPY ca-certificates.crt /etc/ssl/certs/
COPY wxapp-portrait-exporter /usr/bin/
COPY --chown=65532:65532 data /data
VOLUME /data

FROM base
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /wxapp-portrait-exporter /usr/bin/
COPY --from=build --chown=65532:65532 /data /data
VOLUME /data
