"""`python -m atas_deploy` is `atas-deploy`."""

from atas_deploy.cli.main import main

main(prog_name="atas-deploy")
