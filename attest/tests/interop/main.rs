//! What others wrote and others read: vectors of the standards, two other implementations, and OpenSSL.
//!
//! `theirs.json` was written and `ours.json` was checked by the program in `go/`, which uses the libraries that the
//! public transparency logs run on. `CMS_BLESS=1` writes `ours.json` anew; then it has to be checked anew. `http/` does
//! the same for the signature of a request, against another implementation of RFC 9421.

#[cfg(test)]
mod ledger;
#[cfg(test)]
mod openssl;
#[cfg(test)]
mod standards;
