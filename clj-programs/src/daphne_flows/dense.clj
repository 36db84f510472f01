(ns daphne-flows.dense
  "This namespace is products with one of many matrices that stand one after the other,
  each [input, output], row by row.")

(set! *warn-on-reflection* true)

(defn sigmoid ^double [^double x] (/ 1.0 (+ 1.0 (Math/exp (- x)))))

(defn softplus
  "log(1 + e^x)"
  ^double [^double x]
  (+ (max x 0.0) (Math/log1p (Math/exp (- (Math/abs x))))))

(defn silu ^double [^double x] (* x (sigmoid x)))

(defn part
  "Number `k` of equally long parts of an array."
  ^doubles [^doubles values k length]
  (let [start (* (long k) (long length))]
    (java.util.Arrays/copyOfRange values (int start) (int (+ start (long length))))))

(defn affine
  "The vector `in` times the matrix that starts at `start`, plus `bias`."
  ^doubles [^doubles in ^doubles matrix start ^doubles bias]
  (let [start (long start)
        width (alength bias)
        out (aclone bias)]
    (dotimes [r (alength in)]
      (let [x (aget in r), line (+ start (* r width))]
        (dotimes [c width]
          (aset out c (+ (aget out c) (* x (aget matrix (+ line c))))))))
    out))
