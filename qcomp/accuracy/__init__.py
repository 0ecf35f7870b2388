"""How near integer outputs are to float ones: a figure for each output and each part of one."""
