"""The platforms' own APIs, asked for what their webhooks did not tell."""
