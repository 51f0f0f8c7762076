//! Every reader on logs of every generation: our own, and real ones where they are.
