"""Example of an Airflow DAG: the steps of an archive, each a RayJob of an overlay, one after another.

Airflow's worker needs kubectl, this repository, and the right to create RayJobs. A step that is run again resumes where
it was; the RayJob of an earlier run, kept for its log, is replaced.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise

from airflow.providers.standard.operators.bash import BashOperator
from airflow.sdk import DAG

OVERLAY = "/opt/transdomain/infra/kubernetes/overlays/gpu"
HOURS = {"pack": 6, "train": 168, "translate": 48}

STEP = """set -euo pipefail
kubectl delete rayjob {job} --ignore-not-found --wait
kubectl apply -k {overlay} -l 'app.kubernetes.io/component in (shared, {job})'
state=
until [[ $state == Complete || $state == Failed ]]; do
    sleep 30
    state=$(kubectl get rayjob {job} -o 'jsonpath={{.status.jobDeploymentStatus}}')
done
[[ $state == Complete ]]
"""

with DAG(
    dag_id="transdomain",
    start_date=datetime(2026, 1, 1),
    schedule=None,
    catchup=False,
    # Two runs at once would be safe, and would share the work.
    max_active_runs=1,
) as dag:
    steps = [
        BashOperator(
            task_id=job,
            bash_command=STEP.format(job=job, overlay=OVERLAY),
            retries=2,
            execution_timeout=timedelta(hours=hours),
        )
        for job, hours in HOURS.items()
    ]
    for before, after in pairwise(steps):
        before >> after
