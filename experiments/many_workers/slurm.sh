#!/bin/bash
# Workers of one study as a Slurm job array: each has a GPU, and takes trials until the search is
# over. Submit with:  sbatch --array=1-16 experiments/many_workers/slurm.sh experiments/quickstart
#SBATCH --job-name=rfsearch
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --time=12:00:00
#SBATCH --requeue
# SIGTERM comes 120 s before the time is over; a worker then hands back its trial.
#SBATCH --signal=TERM@120
#SBATCH --output=rfsearch-%A-%a.log
set -euo pipefail

experiment=${1:?"usage: sbatch --array=1-N slurm.sh EXPERIMENT [STUDY]"}
study=${2:-$(basename "$experiment")}
# Address without password, as postgresql://rfsearch@db.example/studies; the password lies in
# ~/.pgpass, which only its owner may read.
: "${RFSEARCH_STORAGE:?"must hold the address of the database"}"
export RFSEARCH_STORAGE
export OMP_NUM_THREADS=${SLURM_CPUS_PER_TASK:-1}

# A folder that all nodes see lets them go on with each other's trainings.
exec srun --kill-on-bad-exit=0 rfsearch worker "$experiment" --study "$study" \
    --checkpoints "${SLURM_SUBMIT_DIR:-$PWD}/checkpoints" --grace 90
