"""The conditional flow q(latents | observed) along a faithful inverse."""
