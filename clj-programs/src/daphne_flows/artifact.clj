(ns daphne-flows.artifact
  "This namespace reads an artifact folder and checks it from end to end.

  Checked are the manifest's form, version and checksum, length and digest of the other
  two files, every tensor's shape, and that the flow gives its golden values."
  (:require [clojure.data.json :as json]
            [clojure.java.io :as io]
            [clojure.set :as set]
            [daphne-flows.flow :as flow]
            [daphne-flows.manifest-text :as manifest-text]
            [daphne-flows.problem :refer [fail shown]]
            [daphne-flows.safetensors :as safetensors]
            [daphne-flows.structure :as structure])
  (:import (java.io File)
           (java.nio.file Files)))

(set! *warn-on-reflection* true)

(def format-versions
  "3 says inverse and structure apart; 1 and 2 are read as what they would be in it."
  [1 2 3])

(def ^:private most-bytes (* 1024 1024 1024))
(def ^:private golden-tolerance 1e-5)

(defn- read-bytes ^bytes [^File file expected]
  (when-not (.isFile file)
    (fail (str file) "no such file" "a file of an artifact" nil))
  (let [length (.length file)]
    (when (> length most-bytes)
      (fail (str file) "too large" (str most-bytes " bytes") (str length)))
    (when (and expected (not= length expected))
      (fail (str file) (if (< length expected) "cut short" "too long")
            (str expected " bytes") (str length))))
  (Files/readAllBytes (.toPath file)))

(defn- parse-json [^bytes content where]
  (try (json/read-str (String. content "UTF-8"))
       (catch Exception _ (fail where "not JSON; cut short or damaged"))
       (catch StackOverflowError _ (fail where "nested too deep"))))

(defn- formed
  "What `f` makes of a manifest, or a sentence if that has another form."
  [where f]
  (try (f)
       (catch ClassCastException _ (fail where "not the form of a manifest"))
       (catch NullPointerException _ (fail where "not the form of a manifest"))))

(defn- upgraded
  "A manifest of an earlier version in the form of version 3, without the inverse, which
  earlier ones did not hold: what they called so is the structure. The first
  autoregressive flows of version 3 had no contexts, the first contexts no forms, and
  no logarithms of data far out."
  [{:strs [version inverse architecture factors auxiliary_reference flow]
    :as manifest}]
  (if (= 3 version)
    (cond-> manifest
      (= "autoregressive" (get flow "kind"))
      (update-in ["flow" "config"]
                 #(if (map? %) (merge {"context" 0 "forms" 0 "log_beyond" 0} %) %)))
    (-> (dissoc manifest "inverse" "architecture" "factors" "auxiliary_reference")
        (assoc "structure" (cond-> (assoc inverse "nuisances" (architecture "auxiliary"))
                             (= 2 version) (assoc "factors" factors))
               "flow" {"kind" "cnf" "config" (dissoc architecture "auxiliary")}
               "nuisance_reference" auxiliary_reference))))

(defn- check-known
  "Throws if the manifest says something that this reader does not know."
  [{:strs [base nuisance_reference normalisation structure model heads]} where]
  (when-not (and (= "standard normal" base nuisance_reference)
                 (= normalisation (if (contains? structure "factors")
                                    structure/factors-kind
                                    structure/affine-kind)))
    (fail where "another base density or normalisation than this reader knows"))
  (when heads
    (fail where "discrete latents have learned heads, which this reader does not draw"
          "an artifact of a model whose discrete latents are summed out"
          (str (count (heads "cells")) " heads")))
  (when (seq (model "without_density"))
    (fail where (str "latents of this flow have no density, as their values came from "
                     "a file; so its draws have no weights"))))

(defn- load-manifest [folder]
  (let [file (io/file folder "manifest.json")
        where (str file)
        content (read-bytes file nil)
        manifest (parse-json content where)]
    (when-not (and (map? manifest) (= "daphne-flows artifact" (manifest "format")))
      (fail where "this is no manifest of an artifact"))
    (when-not (some #{(manifest "version")} format-versions)
      (fail where "this version of the format cannot be read"
            (apply str (interpose " or " format-versions))
            (shown (manifest "version"))))
    (manifest-text/check (String. content "UTF-8") (manifest "checksum") where)
    (formed where #(upgraded manifest))))

(defn- described
  "The kind and the structure of the flow that a manifest is of."
  [manifest where]
  (let [kind (flow/kind-of (manifest "flow") where)]
    (check-known manifest where)
    [kind (structure/structure manifest where)]))

(defn- checked-bytes [folder manifest name]
  (let [file (io/file folder name)
        {:strs [bytes digest]} (get-in manifest ["files" name])
        content (read-bytes file bytes)]
    (when-not (= digest (manifest-text/sha256 content))
      (fail (str file) "changed after it was written: the digest differs"))
    content))

(defn- distance
  "Largest absolute difference; NaN counts as infinite."
  [found expected]
  (reduce (fn [most [a b]]
            (let [d (Math/abs (- (double a) (double b)))]
              (if (Double/isNaN d) ##Inf (max most d))))
          0.0 (map vector found expected)))

(defn- golden-names
  "Golden values with the names of version 3: earlier ones say auxiliary."
  [golden]
  (if (and (map? golden) (contains? golden "auxiliary"))
    (set/rename-keys golden {"auxiliary" "nuisances"})
    golden))

(defn- golden-error
  "Largest relative difference from the golden values."
  [flow {:strs [base observed free nuisances log_prob_per_node]}]
  (apply max
         (map (fn [base observed & expected]
                (let [expected (apply concat expected)
                      {:keys [free nuisances log-density]}
                      (flow/base-to-latent flow (double-array base)
                                           (double-array observed))]
                  (/ (distance (concat free nuisances log-density) expected)
                     (+ 1.0 (distance expected (repeat 0.0))))))
              base observed free nuisances log_prob_per_node)))

(defn- close-enough
  "The first version of the flow that gives the golden values."
  [{:keys [blocks state-dim free-dim observed-dim] :as flow} golden where]
  (let [widths {"base" state-dim, "observed" observed-dim, "free" free-dim
                "nuisances" (- state-dim free-dim), "log_prob_per_node" (count blocks)}]
    (when-not (and (map? golden)
                   (<= 1 (count (golden "base")) 1000)
                   (every? (fn [[name width]]
                             (let [rows (golden name)]
                               (and (vector? rows)
                                    (= (count rows) (count (golden "base")))
                                    (every? #(and (vector? %) (= width (count %))
                                                  (every? number? %))
                                            rows))))
                           widths))
      (fail where "damaged" (pr-str (sort (keys widths))) nil))
    (let [versions (flow/refined flow)]
      (or (first (filter #(<= (golden-error % golden) golden-tolerance) versions))
          (fail where "the flow does not give its golden values"
                (str "a relative difference up to " golden-tolerance)
                (str (golden-error (last versions) golden)))))))

(defn load-artifact
  "The checked artifact in a folder, {:manifest ... :flow ...}.

  Of a flow that is solved step by step it is the version with the fewest steps that
  gives the golden values to a relative 1e-5."
  [folder]
  (let [manifest (load-manifest folder)
        where #(str (io/file folder %))
        [kind structure] (formed (where "manifest.json")
                                 #(described manifest (where "manifest.json")))
        tensors (safetensors/parse (checked-bytes folder manifest "weights.safetensors")
                                   (where "weights.safetensors"))
        flow (flow/flow structure kind tensors (where "weights.safetensors"))
        golden (golden-names (parse-json (checked-bytes folder manifest "golden.json")
                                         (where "golden.json")))]
    {:manifest manifest
     :flow (close-enough flow golden (where "golden.json"))}))
