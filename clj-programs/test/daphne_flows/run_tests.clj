(ns daphne-flows.run-tests
  "This namespace runs all tests; the exit code is 1 if one fails."
  (:require [clojure.test :as test]
            [daphne-flows.agreement-test]
            [daphne-flows.chain-test]
            [daphne-flows.grid-test]
            [daphne-flows.integrated-test]
            [daphne-flows.mixture-test]
            [daphne-flows.safetensors-test]
            [daphne-flows.support-test]))

(defn -main []
  (let [{:keys [fail error]} (test/run-tests 'daphne-flows.safetensors-test
                                             'daphne-flows.support-test
                                             'daphne-flows.mixture-test
                                             'daphne-flows.chain-test
                                             'daphne-flows.grid-test
                                             'daphne-flows.agreement-test
                                             'daphne-flows.integrated-test)]
    (shutdown-agents)
    (System/exit (if (zero? (+ fail error)) 0 1))))
