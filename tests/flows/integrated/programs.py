"""Programs that tests of what is integrated out share."""

CIRCUIT = """
(let [z0 (sample (laplace 5 1))
      z1 (sample (laplace -2 1))
      z2 (sample (normal (tanh (- (+ z0 z1) 2.8)) 0.1))
      z3 (sample (normal (* z0 z1) 0.1))
      z4 (sample (normal 7 2))
      z5 (sample (normal (tanh (+ z3 z4)) 0.1))
      x0 (observe (normal z3 0.1) -9.7)
      x1 (observe (normal z5 0.1) 0.85)]
  z0)
"""
GROUPS = """
(let [mu (sample (normal 0 2))
      tau (sample (gamma 2 2))
      a (sample (normal mu tau))
      b (sample (gamma 2 (exp mu)))
      c (sample (normal (* a b) 1))
      d (sample (normal c tau))
      x (observe (normal a 0.5) 0.4)
      y (observe (normal b 0.3) 1.1)]
  mu)
"""
"""Of a and b are parts to be integrated over, of which one is positive; c, d unseen."""
LINEAR = """
(let [m (sample (normal 0 2))
      a (sample (normal m 1))
      b (sample (normal m 1))
      x (observe (normal a 0.5) 0.4)
      y (observe (normal b 0.5) 1.1)]
  m)
"""
