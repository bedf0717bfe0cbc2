//! Claims: what an act says will be, beside what was.

use serde::Serialize;

/// One thing that an act claimed, and whether it held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Claim {
    /// What it is about.
    pub claim: String,
    pub expected: String,
    pub measured: String,
    pub held: bool,
}

/// What became of one act.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub act: usize,
    pub title: String,
    pub claims: Vec<Claim>,
}

impl Verdict {
    /// Whether every claim held. An act that measured nothing has shown nothing.
    pub fn held(&self) -> bool {
        !self.claims.is_empty() && self.claims.iter().all(|claim| claim.held)
    }
}

/// The claims of an act, as they are measured.
#[derive(Debug, Default)]
pub struct Claims(Vec<Claim>);

impl Claims {
    /// Claims that what was measured is what was expected.
    pub fn equal<T: PartialEq + ToString>(&mut self, claim: impl Into<String>, expected: T, measured: T) {
        let held = expected == measured;
        self.push(claim, expected.to_string(), measured.to_string(), held);
    }

    /// Claims something that is more than an equality, or said better in words.
    pub fn push(
        &mut self,
        claim: impl Into<String>,
        expected: impl Into<String>,
        measured: impl Into<String>,
        held: bool,
    ) {
        let (claim, expected, measured) = (claim.into(), expected.into(), measured.into());
        self.0.push(Claim { claim, expected, measured, held });
    }

    pub fn into_vec(self) -> Vec<Claim> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_act_without_claims_has_not_held() {
        let verdict = |claims: Claims| Verdict { act: 1, title: "one".into(), claims: claims.into_vec() };
        assert!(!verdict(Claims::default()).held());
        let mut claims = Claims::default();
        claims.equal("tabs", 8, 8);
        claims.push("page", "no byte", "200", false);
        assert!(!verdict(claims).held());
    }
}
