(ns daphne-flows.packing
  "This namespace knows where packed weights stand in their matrix.

  A matrix is cut into row blocks, one per latent. Row block i has only some column
  blocks, each a list of *runs* [first-column width]. Packed are the blocks one after
  the other, row block by row block, each row by row.

  A packing is {:parts ints :diagonal longs :size n}. `parts` has six numbers per run:
  first row, rows, position of the run's first number, numbers per row of the block,
  first column, columns. `diagonal` is where the last column block of each row block
  starts.")

(set! *warn-on-reflection* true)

(defn runs-width [runs] (reduce + (map second runs)))

(defn size
  "How many numbers a matrix packs, counted without making anything."
  [heights pattern]
  (reduce +' (map (fn [height blocks] (*' height (reduce +' (map runs-width blocks))))
                  heights pattern)))

(defn- block-parts [row height start runs]
  (let [stride (runs-width runs)]
    (map (fn [[column width] before]
           [row height (+ start before) stride column width])
         runs
         (reductions + 0 (map second runs)))))

(defn packing
  "The packing of row blocks with these heights and column blocks."
  [heights pattern]
  (loop [heights heights, pattern pattern, row (num 0), start (num 0), parts [],
         diagonal []]
    (if-let [height (first heights)]
      (let [blocks (first pattern)
            starts (reductions + start (map #(* height (runs-width %)) blocks))]
        (recur (rest heights) (rest pattern) (+ row height) (last starts)
               (into parts (mapcat #(block-parts row height %1 %2) starts blocks))
               (conj diagonal (if (seq blocks) (nth starts (dec (count blocks))) start))))
      {:parts (int-array (apply concat parts))
       :diagonal (long-array diagonal)
       :size start})))

(defn add-product!
  "Adds the packed matrix times the vector `in` to the vector `out`."
  [packing ^doubles packed ^doubles in ^doubles out]
  (let [^ints parts (:parts packing)
        end (alength parts)]
    (loop [p 0]
      (when (< p end)
        (let [row (aget parts p)
              height (aget parts (+ p 1))
              start (aget parts (+ p 2))
              stride (aget parts (+ p 3))
              column (aget parts (+ p 4))
              width (aget parts (+ p 5))]
          (dotimes [r height]
            (let [line (+ start (* r stride))
                  sum (double
                       (loop [c 0 sum 0.0]
                         (if (< c width)
                           (recur (inc c)
                                  (+ sum (* (aget packed (+ line c))
                                            (aget in (+ column c)))))
                           sum)))]
              (aset out (+ row r) (+ (aget out (+ row r)) sum))))
          (recur (+ p 6)))))
    out))
