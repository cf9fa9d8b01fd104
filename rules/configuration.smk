# The configuration's files, read strictly before Snakemake reads them: there the last of equal keys wins in silence.
from snakemake.exceptions import WorkflowError

from llm_pruner.system.errors import PrunerError
from llm_pruner.workflow import snakemake_private
from llm_pruner.workflow.config_files import check_files

try:
    # a job reads what its run has checked
    CONFIG_PLACES = check_files(snakemake_private.files_to_read(workflow)) if workflow.is_main_process else {}
except PrunerError as error:
    raise WorkflowError(str(error)) from None
