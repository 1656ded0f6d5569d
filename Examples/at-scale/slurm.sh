#!/bin/bash
# One conversion by a Slurm job array: each task writes a part, and whichever node it runs on, DESTINATION
# must be on a file system that all of them see.
#
#     sbatch --array=1-4 Examples/at-scale/slurm.sh SOURCE DESTINATION --to fla --max-shard-size 5GB
#
# A task that is preempted, or whose node fails, is requeued and written again. When all have ended, one more job
# puts the directory together; it looks itself whether every part is whole, so that a task which failed and was
# requeued by hand is no matter (afterok would never forgive it):
#
#     sbatch --dependency=afterany:JOB --wrap 'weighbridge convert SOURCE DESTINATION --to fla --max-shard-size 5GB --finish'
#
# To run some parts again by themselves: PARTS=4 sbatch --array=2,3 …
#SBATCH --job-name=weighbridge
#SBATCH --array=1-4
#SBATCH --requeue
#SBATCH --open-mode=append
set -e
exec weighbridge convert "$@" --part "$SLURM_ARRAY_TASK_ID/${PARTS:-$SLURM_ARRAY_TASK_COUNT}"
