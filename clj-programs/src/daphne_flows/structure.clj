(ns daphne-flows.structure
  "This namespace turns a manifest into the blocks of a flow's state.

  The state is cut into blocks, one per latent in sampling order. A block holds the free
  columns of its latent, then its nuisance columns. Block i reads the blocks of its
  latent parents, sorted by position, then itself, and the columns of its observed
  parents, in increasing order."
  (:require [daphne-flows.problem :refer [fail shown]]))

(set! *warn-on-reflection* true)

(def ^:private most-columns 10000000)
(def ^:private most-factor-columns 256)
(def ^:private most-factor-entries 100000)

(def affine-kind "shift and scale, then affine along the inverse")
(def factors-kind "shift and scale, then the posterior of factors linear in the latents")

(defn- tiled
  "Throws unless the variables' columns follow each other without gaps; their number."
  [variables start-key stop-key where]
  (let [end (reduce (fn [end {start start-key stop stop-key}]
                      (if (and (nat-int? start) (nat-int? stop) (= start end)
                               (<= start stop most-columns))
                        stop
                        (fail where "columns do not follow each other"
                              (str "a variable that starts at " end)
                              (shown [start stop]))))
                    0 variables)]
    end))

(defn- shapes-fit
  "Throws unless every variable has as many columns as its shape has entries."
  [variables where]
  (doseq [{:strs [name shape start stop]} variables]
    (when-not (and (every? nat-int? shape) (== (reduce *' shape) (- stop start)))
      (fail where (str "shape and columns of " name " disagree")
            (str (- stop start) " columns") (shown shape)))))

(defn- block
  [latents observed position entry-parents start name nuisances where]
  (let [{:strs [free_start free_stop label shape]} (latents name)
        parents (entry-parents name)
        unknown (first (remove #(or (position %) (observed %)) parents))
        before (sort (keep position parents))]
    (when unknown
      (fail where "unknown parent" "a latent or an observed node" (shown unknown)))
    (when-not (or (empty? parents) (apply distinct? parents))
      (fail where (str "a parent of " name " stands twice")))
    (when-not (every? #(< % (position name)) before)
      (fail where (str "a parent of " name " does not come before it")))
    (when-not (< free_start free_stop)
      (fail where (str name " has no free column")))
    {:name name
     :label label
     :shape shape
     :free-start free_start
     :free-size (- free_stop free_start)
     :nuisances nuisances
     :size (+ (- free_stop free_start) nuisances)
     :start start
     :parents (vec before)
     :observed (->> (keep observed parents)
                    (map (fn [{:strs [start stop]}] [start (- stop start)]))
                    sort
                    vec)}))

(defn- factors
  "The manifest's factors, {:latents [state columns] :observed [columns]}; nil if none."
  [manifest blocks free-dim observed-dim where]
  (let [place (into {} (for [{:keys [start free-start free-size]} blocks
                             k (range free-size)]
                         [(+ free-start k) (+ start k)]))
        found (get-in manifest ["structure" "factors"])]
    (when-not (and (or (nil? found) (sequential? found))
                   (<= (* (count found) (inc free-dim)) most-factor-entries)
                   (or (empty? found) (<= free-dim most-factor-columns)))
      (fail where "too large, or no list"))
    (seq (for [{:strs [latents observed] :as factor} found]
           (if (and (map? factor) (seq latents) (every? place latents)
                    (every? #(and (nat-int? %) (< % observed-dim)) observed))
             {:latents (mapv place latents) :observed (vec observed)}
             (fail where "no columns of the layout" "columns" (shown factor)))))))

(defn structure
  "The blocks, {:blocks :observed :state-dim :free-dim :observed-dim :config ...}."
  [manifest where]
  (let [{:strs [latents observed]} (manifest "layout")
        {:strs [nuisances parents] order "latents"} (manifest "structure")
        free-dim (tiled latents "free_start" "free_stop" (str where ": $.layout.latents"))
        observed-dim (tiled observed "start" "stop" (str where ": $.layout.observed"))
        _ (tiled latents "start" "stop" (str where ": $.layout.latents"))
        _ (shapes-fit (concat latents observed) (str where ": $.layout"))
        by-name #(into {} (map (juxt (fn [v] (v "name")) identity)) %)
        latents-by-name (by-name latents)
        position (zipmap order (range))]
    (when-not (and (= (set order) (set (keys latents-by-name)))
                   (= (count order) (count latents) (count nuisances)))
      (fail where "structure and layout have other latents"))
    (when-not (every? #(and (nat-int? %) (<= % 1000)) nuisances)
      (fail (str where ": $.structure.nuisances") "not numbers of columns"
            "whole numbers up to 1000" (shown nuisances)))
    (let [blocks (reduce
                  (fn [blocks [name nuisances]]
                    (let [{:keys [start size]} (peek blocks)]
                      (conj blocks
                            (block latents-by-name (by-name observed) position parents
                                   (if start (+ start size) 0) name nuisances
                                   (str where ": $.structure")))))
                  [] (map vector order nuisances))]
      {:blocks blocks
       :latents latents
       :observed observed
       :factors (factors manifest blocks free-dim observed-dim
                         (str where ": $.structure.factors"))
       :free-dim free-dim
       :observed-dim observed-dim
       :state-dim (reduce + (map :size blocks))
       :config (get-in manifest ["flow" "config"])})))

(defn state-runs
  "The column blocks of each row block in a layer whose blocks stand at `start`, with
  `size`: those of the parents, then its own."
  [{:keys [blocks]} start size]
  (for [block blocks]
    (vec (for [other (conj (mapv blocks (:parents block)) block)]
           [[(start other) (size other)]]))))

(defn affine-runs
  "Per state column, the runs that its affine layer reads: the free columns of the
  parents, then earlier free columns of the same block; none for nuisance columns."
  [{:keys [blocks]}]
  (for [{:keys [start size free-size parents]} blocks
        k (range size)]
    [(if (< k free-size)
       (conj (mapv (fn [j] [(:start (blocks j)) (:free-size (blocks j))]) parents)
             [start k])
       [])]))

(defn affine-observed-runs
  "Per state column, the runs of observed columns that its affine layer reads."
  [{:keys [blocks]}]
  (for [{:keys [size observed]} blocks, _ (range size)]
    [observed]))

(defn triangle-runs
  "Per state column, all columns before it; none for nuisance columns."
  [{:keys [blocks]}]
  (for [{:keys [start size free-size]} blocks
        k (range size)]
    [(if (< k free-size) [[0 (+ start k)]] [])]))
