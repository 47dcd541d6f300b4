# The app in a container, made for a Hugging Face Docker Space: docs/hosting.md says how.
# tools/like_docker.py follows these lines without Docker; it knows the instructions that stand here and no others.
FROM python:3.11-slim

# PyTorch's index: for a GPU, for example --build-arg TORCH_INDEX=https://download.pytorch.org/whl/cu126
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

RUN useradd --create-home --uid 1000 user
WORKDIR /app

# streamlit[auth] is for signing in by OpenID Connect, which only a hosted app needs. A library of the system that is
# missing shows in the last line, while the image is built.
COPY requirements.txt ./
RUN pip install --no-cache-dir torch torchvision --index-url "$TORCH_INDEX" \
    && pip install --no-cache-dir -r requirements.txt "streamlit[auth]" \
    && python -c "import authlib, datasets, faiss, gdcm, gradio, open_clip, streamlit, torch, torchvision, umap"

# The code is root's. Bytecode is made now, as the user cannot write it.
COPY .streamlit/config.toml .streamlit/
COPY assets assets
COPY clipdemo clipdemo
COPY pages pages
COPY app.py LICENSE README.md ./
RUN chmod -R a+rX,go-w . && python -m compileall -q app.py clipdemo pages

# Hosted unless somebody says otherwise: visitors look, the teacher acts. Inside the frame of a Space's page a browser
# keeps the cookie of Streamlit's protection against forged uploads from it, so that all of them would fail.
ENV HOME=/home/user \
    XDG_CACHE_HOME=/home/user/.cache \
    HF_HOME=/home/user/.cache/huggingface \
    PYTHONUNBUFFERED=1 \
    CLIPDEMO_HOSTED=1 \
    STREAMLIT_SERVER_ADDRESS=0.0.0.0 \
    STREAMLIT_SERVER_PORT=8501 \
    STREAMLIT_SERVER_ENABLE_XSRF_PROTECTION=false

EXPOSE 8501
USER 1000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s --retries=3 CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['STREAMLIT_SERVER_PORT']), timeout=4); c.request('GET', '/_stcore/health'); sys.exit(c.getresponse().status != 200)"]
CMD ["python", "-m", "clipdemo.container"]
