#!/usr/bin/env bash
# The README's commands for several ranks on this machine; those for hosts and Slurm: tests/cluster.
. tests/dist/lib.sh

unset OMPI_MCA_pml # as OpenMPI itself chooses
readme_stage
export PATH=$work/readme/bin:$PATH OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
while read -r line; do
    check "$line" bash -c "cd '$work/readme' && $line" </dev/null
done < <(readme_lines '(puck|mpirun -np)')
check "four commands ran" test $tap_n = 4
finish
