# A gallery as a service: page, API and the database in one container.
#
#   docker build --tag textreid .
#   docker run --rm -it --volume textreid:/data textreid textreid account add root --scope admin
#   docker run --rm -it --volume textreid:/data --volume "$PWD/videos:/videos:ro" textreid textreid index /videos --gallery demo
#   docker run --detach --volume textreid:/data --publish 127.0.0.1:8000:8000 textreid
#
# It listens to other machines, so that it refuses to start before there is an account; TLS is a proxy's, see docs/deploy.md.
FROM python:3.12-slim

RUN useradd --create-home --uid 1000 textreid && mkdir /data && chown textreid:textreid /data && chmod 700 /data
WORKDIR /opt/textreid
COPY constraints.txt pyproject.toml README.md LICENSE NOTICE ./
COPY src src
# torch of the processor alone: the other one is larger by gigabytes.
RUN pip install --no-cache-dir --extra-index-url https://download.pytorch.org/whl/cpu \
      --constraint constraints.txt ".[mqtt,serve]"

USER 1000:1000
ENV TEXTREID_DATA=/data TEXTREID_CACHE=/data/cache
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
  CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/health', timeout=4)"]
STOPSIGNAL SIGTERM
CMD ["textreid", "serve", "--gallery", "demo", "--host", "0.0.0.0", "--port", "8000", "--require-purpose"]
