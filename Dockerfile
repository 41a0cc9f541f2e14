# One image for every process of compose.yaml; the command says which one a container is.
FROM python:3.11-slim AS build
WORKDIR /app
COPY requirements-uv.txt requirements.txt ./
RUN python -m venv /uv && /uv/bin/pip install --no-cache-dir --require-hashes -r requirements-uv.txt \
 && python -m venv --without-pip /venv \
 && /uv/bin/uv pip sync --no-cache --require-hashes --compile-bytecode --python /venv/bin/python requirements.txt

FROM python:3.11-slim
ENV PATH=/venv/bin:$PATH PYTHONUNBUFFERED=1 DJANGO_SETTINGS_MODULE=config.settings \
    DATA_DIR=/data STATIC_ROOT=/app/staticfiles
RUN useradd --system --uid 10001 --home-dir /data --create-home claytom \
    && install --directory --owner claytom --mode 700 /data/spool
WORKDIR /app
COPY --from=build /venv /venv
COPY . .
# Static files belong to the image: every replica of web serves the same.
RUN SECRET_KEY=build python -m django collectstatic --noinput --verbosity 0
USER claytom
EXPOSE 8000 8001
CMD ["python", "-m", "granian", "--interface", "wsgi", "--host", "0.0.0.0", "--port", "8000", "--no-ws", "config.wsgi:application"]
