//! Submissions and enrolments as they travel: what is signed is accepted, and nothing else ever is.

#[cfg(test)]
mod astray;
#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod hands;
#[cfg(test)]
mod mutations;
#[cfg(test)]
mod rotation;
#[cfg(test)]
mod submission;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod two_keys;
#[cfg(test)]
mod wire;
