//! Submissions and enrolments as they travel: what is signed is accepted, and nothing else ever is.

#[cfg(test)]
mod enrolment;
#[cfg(test)]
mod submission;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod wire;
