"""Program text becomes a graph document, pass by pass, as in Daphne."""
