"""Theory's side of the lab's experiments: closed forms, exact solutions and small flows that they are held against."""
