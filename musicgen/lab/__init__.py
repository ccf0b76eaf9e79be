"""Everything shown in JupyterLab: figures, sound, the player, forms and panels."""
