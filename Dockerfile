# loftr-sfm in a container, for a CPU or an NVIDIA GPU:
#
#   docker build -t loftr-sfm .                                  CPU
#   docker build -t loftr-sfm:cuda --build-arg TORCH=cu130 .     CUDA (any of https://download.pytorch.org/whl)
#
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/data" loftr-sfm images out
#   docker run --rm -u "$(id -u):$(id -g)" -v "$PWD:/data" --gpus all loftr-sfm:cuda images out
#
# The current folder is /data inside, so paths are relative to it. Windows are not shown: use view's --screenshot and
# --turntable, and open out/report.html outside.
FROM python:3.11-slim-bookworm

RUN apt-get update \
    && apt-get install -y --no-install-recommends libgl1 libegl1 libgomp1 libusb-1.0-0 libx11-6 \
    && rm -rf /var/lib/apt/lists/*

RUN python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH

# PyTorch alone first: it is most of the image, and changes least.
ARG TORCH=cpu
WORKDIR /opt/loftr-sfm
COPY constraints.txt .
RUN pip install --no-cache-dir --index-url "https://download.pytorch.org/whl/$TORCH" "$(grep '^torch==' constraints.txt)"

COPY . .
RUN pip install --no-cache-dir -c constraints.txt ".[raw]"

# A place for downloaded weights that any user may write to; mount a volume there to keep them.
ENV HOME=/home/loftr-sfm XDG_CACHE_HOME=/cache
RUN mkdir -m 777 /cache /home/loftr-sfm

WORKDIR /data
ENTRYPOINT ["loftr-sfm"]
CMD ["--help"]
