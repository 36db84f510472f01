(ns daphne-flows.factors
  "This namespace is the affine layer of a model that is linear in its latents once the
  data are known.

  Factor f says of its latents v_f and its observed values x_f, both normalised, that
  [1, v_f]^T M_f [1, x_f] is standard normal. Together the factors are A v + a, and with
  R R^T = A^T A, R upper triangular in the order of the state, the residual coordinates
  are r = R^T v + R^-1 A^T a; that is

      r_i = (v_i - centre_i - B_i v) / residual-scale_i.")

(set! *warn-on-reflection* true)

(defn size
  "How many coefficients the factors have."
  [factors]
  (reduce +' (map (fn [{:keys [latents observed]}]
                    (*' (inc (count latents)) (inc (count observed))))
                  factors)))

(defn- row
  "What a factor's matrix gives with the observed values: a, then one number per latent."
  ^doubles [^doubles coefficients start {:keys [latents observed]} ^doubles given]
  (let [width (inc (count observed))]
    (double-array
     (for [p (range (inc (count latents)))]
       (let [line (+ (long start) (* (long p) width))]
         (reduce (fn [sum k]
                   (+ (double sum)
                      (* (aget coefficients (+ line 1 (long k)))
                         (aget given (int (observed k))))))
                 (aget coefficients line) (range (count observed))))))))

(defn- normal-equations
  "A^T A, row by row, and A^T a."
  [factors coefficients given n]
  (let [n (long n)
        precision (double-array (* n n))
        information (double-array n)]
    (reduce (fn [start {:keys [latents] :as factor}]
              (let [found (row coefficients start factor given)
                    columns (int-array latents)
                    count-of (alength columns)]
                (dotimes [p count-of]
                  (let [i (aget columns p)
                        value (aget found (inc p))]
                    (aset information i (+ (aget information i)
                                           (* value (aget found 0))))
                    (dotimes [q count-of]
                      (let [at (+ (* i n) (aget columns q))]
                        (aset precision at (+ (aget precision at)
                                              (* value (aget found (inc q)))))))))
                (+ (long start) (long (size [factor])))))
            0 factors)
    [precision information]))

(defn- upper-root!
  "Makes R of a matrix R R^T in place, from the last column back, for these columns."
  [^doubles matrix ^ints columns n]
  (let [n (long n)
        end (alength columns)]
    (loop [b (dec end)]
      (when (>= b 0)
        (let [j (aget columns b)
              dot (fn [i] (loop [c (inc b) sum 0.0]
                            (if (< c end)
                              (let [k (aget columns c)]
                                (recur (inc c)
                                       (+ sum (* (aget matrix (+ (* (long i) n) k))
                                                 (aget matrix (+ (* j n) k))))))
                              sum)))
              pivot (Math/sqrt (- (aget matrix (+ (* j n) j)) (double (dot j))))]
          (aset matrix (+ (* j n) j) pivot)
          (dotimes [a b]
            (let [i (aget columns a)
                  at (+ (* i n) j)]
              (aset matrix at (/ (- (aget matrix at) (double (dot i))) pivot))))
          (recur (dec b)))))
    matrix))

(defn- solve-upper!
  "Solves R c = h in place."
  [^doubles root ^doubles h ^ints columns n]
  (let [n (long n)
        end (alength columns)]
    (loop [a (dec end)]
      (when (>= a 0)
        (let [i (aget columns a)
              sum (double (loop [c (inc a) sum 0.0]
                            (if (< c end)
                              (let [k (aget columns c)]
                                (recur (inc c) (+ sum (* (aget root (+ (* i n) k))
                                                         (aget h k)))))
                              sum)))]
          (aset h i (/ (- (aget h i) sum) (aget root (+ (* i n) i))))
          (recur (dec a)))))
    h))

(defn affine
  "The layer for normalised observed values: {:residual-scale doubles :centre doubles
  :coefficients doubles}, B packed row by row, all columns before each free one.

  `free` are the free columns of the state, increasing; other columns stay as they are."
  [factors coefficients given free n]
  (let [n (long n)
        columns (int-array free)
        [precision information] (normal-equations factors coefficients given n)
        ^doubles root (upper-root! precision columns n)
        ^doubles offset (solve-upper! root information columns n)
        residual-scale (double-array n 1.0)
        centre (double-array n)
        packed (double-array (reduce + free))]
    (loop [a 0 start 0]
      (when (< a (alength columns))
        (let [i (aget columns a)
              scale (/ 1.0 (aget root (+ (* i n) i)))]
          (aset residual-scale i scale)
          (aset centre i (- (* scale (aget offset i))))
          (dotimes [b a]
            (let [j (aget columns b)]
              (aset packed (+ start j) (- (* scale (aget root (+ (* j n) i)))))))
          (recur (inc a) (+ start i)))))
    {:residual-scale residual-scale :centre centre :coefficients packed}))
