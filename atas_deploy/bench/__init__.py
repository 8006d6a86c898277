"""`atas-deploy bench`: what a segmentation costs, stage by stage, beside a plain baseline.

The command measures nothing itself: each turn of each contender is a process of its own, see
`atas_deploy.bench.__main__`, so that one's memory and threads are not the other's.
"""
