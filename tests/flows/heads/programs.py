"""Programs with discrete latents of every sort, and what enumeration says of them."""

MIXED = """
(let [z (sample (normal 0 1))
      k (sample (discrete [0.2 0.3 0.5]))
      b (sample (flip 0.4))
      n (sample (poisson 3))]
  (observe (normal (+ (* 2 k) (+ z (if b 1 -1))) 1) 1.5)
  (observe (normal (+ n z) 1) 4.0)
  [z k b n])
"""
"""One continuous latent beside a discrete one, a flip and a count."""

FLIPS = """
(let [a (sample (flip 0.3))
      b (sample (flip (if a 0.8 0.1)))
      c (sample (categorical [["x" 0.2] ["y" 0.3] ["z" 0.5]]))]
  (observe (normal (+ (if a 1 0) (if b 2 0)) 0.7) 1.1)
  (observe (flip (if (= c "x") (if b 0.9 0.2) 0.5)) true)
  c)
"""
"""Discrete latents alone."""
