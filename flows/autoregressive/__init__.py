"""The kind `autoregressive`: each latent's density a mixture, given what it reads."""
