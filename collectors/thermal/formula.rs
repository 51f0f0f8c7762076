//! Small formulas over points: `loop_a + loop_b`, `max(t1, t2) - 273.15`.
//!
//! Promises: bounded in length, depth and names; exact decimals; a division by zero is a missing value. Refuses:
//! anything but numbers, names, `+ - * / ( )`, `min` and `max`.

use std::collections::BTreeSet;
use std::fmt;

use cms_spec::decimal::Decimal;
use serde::de::{Deserialize, Deserializer, Error};

/// Longest formula; a person has to understand it.
const BYTES_MAX: usize = 1_000;

/// Deepest nesting.
const DEPTH_MAX: usize = 32;

/// A formula, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Formula {
    text: String,
    root: Node,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Node {
    Number(Decimal),
    Point(String),
    Negative(Box<Node>),
    Pair(Operator, Box<Node>, Box<Node>),
    Least(Vec<Node>),
    Greatest(Vec<Node>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
}

/// Why a text is no formula.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormulaError {
    /// Something else stands where something must.
    #[error("the formula makes no sense at {found}: {expected} belongs there")]
    Unexpected {
        /// What stands there.
        found: String,
        /// What may.
        expected: &'static str,
    },
    /// It is too long or too deep.
    #[error("a formula has at most {BYTES_MAX} bytes and {DEPTH_MAX} levels: split it into points")]
    TooLarge,
    /// It computes nothing from points.
    #[error("the formula names no point")]
    Constant,
}

/// Why a formula has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A point that it names has none.
    #[error("{0} has no value")]
    Missing(String),
    /// For example because a flow is zero.
    #[error("the formula divides by zero")]
    DivisionByZero,
    /// Nonsense in, nothing out.
    #[error("the result is too large")]
    TooLarge,
}

impl Formula {
    /// Reads a formula.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, FormulaError> {
        if text.len() > BYTES_MAX {
            return Err(FormulaError::TooLarge);
        }
        let mut parser = Parser {
            rest: text,
            depth: 0,
        };
        let root = parser.sum()?;
        parser.skip_blanks();
        if !parser.rest.is_empty() {
            return Err(parser.unexpected("+, -, * or /, or the end,"));
        }
        let formula = Self {
            text: text.trim().to_owned(),
            root,
        };
        if formula.points().is_empty() {
            return Err(FormulaError::Constant);
        }
        Ok(formula)
    }

    /// The points that it names.
    #[must_use]
    pub fn points(&self) -> BTreeSet<&str> {
        let mut names = BTreeSet::new();
        self.root.points(&mut names);
        names
    }

    /// Its value, with those of the points.
    ///
    /// # Errors
    /// When a point has none, or there is no result.
    pub fn value(&self, of: &dyn Fn(&str) -> Option<Decimal>) -> Result<Decimal, EvaluationError> {
        self.root.value(of)
    }
}

impl Node {
    fn points<'n>(&'n self, names: &mut BTreeSet<&'n str>) {
        match self {
            Self::Number(_) => {}
            Self::Point(name) => {
                names.insert(name);
            }
            Self::Negative(node) => node.points(names),
            Self::Pair(_, left, right) => {
                left.points(names);
                right.points(names);
            }
            Self::Least(nodes) | Self::Greatest(nodes) => {
                nodes.iter().for_each(|node| node.points(names));
            }
        }
    }

    fn value(&self, of: &dyn Fn(&str) -> Option<Decimal>) -> Result<Decimal, EvaluationError> {
        let values = |nodes: &[Self]| {
            let values = nodes.iter().map(|node| node.value(of));
            values.collect::<Result<Vec<_>, _>>()
        };
        let result = match self {
            Self::Number(number) => Some(*number),
            Self::Point(name) => {
                return of(name).ok_or_else(|| EvaluationError::Missing(name.clone()));
            }
            Self::Negative(node) => Decimal::ZERO.checked_sub(node.value(of)?),
            Self::Pair(operator, left, right) => {
                let (left, right) = (left.value(of)?, right.value(of)?);
                match operator {
                    Operator::Add => left.checked_add(right),
                    Operator::Subtract => left.checked_sub(right),
                    Operator::Multiply => left.checked_mul(right),
                    Operator::Divide if right == Decimal::ZERO => {
                        return Err(EvaluationError::DivisionByZero);
                    }
                    Operator::Divide => left.checked_div(right),
                }
            }
            Self::Least(nodes) => values(nodes)?.into_iter().min(),
            Self::Greatest(nodes) => values(nodes)?.into_iter().max(),
        };
        result.ok_or(EvaluationError::TooLarge)
    }
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl<'t> Parser<'t> {
    fn sum(&mut self) -> Result<Node, FormulaError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(FormulaError::TooLarge);
        }
        let mut left = self.product()?;
        while let Some(sign) = self.take(&['+', '-']) {
            let operator = match sign {
                '+' => Operator::Add,
                _ => Operator::Subtract,
            };
            left = Node::Pair(operator, Box::new(left), Box::new(self.product()?));
        }
        self.depth -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Result<Node, FormulaError> {
        let mut left = self.single()?;
        while let Some(sign) = self.take(&['*', '/']) {
            let operator = match sign {
                '*' => Operator::Multiply,
                _ => Operator::Divide,
            };
            left = Node::Pair(operator, Box::new(left), Box::new(self.single()?));
        }
        Ok(left)
    }

    fn single(&mut self) -> Result<Node, FormulaError> {
        let is_negative = self.take(&['-']).is_some();
        let node = if self.take(&['(']).is_some() {
            let inner = self.sum()?;
            self.close()?;
            inner
        } else if let Some(digits) = self.word(|c| c.is_ascii_digit() || c == '.') {
            let number = digits.parse().map_err(|_| FormulaError::Unexpected {
                found: format!("{digits:?}"),
                expected: "a number such as 4.186",
            })?;
            Node::Number(number)
        } else if let Some(name) = self.word(is_of_name) {
            match name {
                "min" | "max" if self.take(&['(']).is_some() => self.extreme(name)?,
                _ => Node::Point(name.to_owned()),
            }
        } else {
            return Err(self.unexpected("a number, the name of a point or ("));
        };
        Ok(match is_negative {
            true => Node::Negative(Box::new(node)),
            false => node,
        })
    }

    fn extreme(&mut self, name: &str) -> Result<Node, FormulaError> {
        let mut nodes = vec![self.sum()?];
        while self.take(&[',']).is_some() {
            nodes.push(self.sum()?);
        }
        self.close()?;
        Ok(match name {
            "min" => Node::Least(nodes),
            _ => Node::Greatest(nodes),
        })
    }

    fn close(&mut self) -> Result<(), FormulaError> {
        match self.take(&[')']) {
            Some(_) => Ok(()),
            None => Err(self.unexpected(")")),
        }
    }

    fn skip_blanks(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn take(&mut self, signs: &[char]) -> Option<char> {
        self.skip_blanks();
        let first = self.rest.chars().next()?;
        if !signs.contains(&first) {
            return None;
        }
        self.rest = self.rest.get(first.len_utf8()..).unwrap_or_default();
        Some(first)
    }

    fn word(&mut self, is_part: fn(char) -> bool) -> Option<&'t str> {
        self.skip_blanks();
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        if word.is_empty() {
            return None;
        }
        self.rest = rest;
        Some(word)
    }

    fn unexpected(&self, expected: &'static str) -> FormulaError {
        let found: String = self.rest.chars().take(20).collect();
        let found = match found.as_str() {
            "" => "its end".to_owned(),
            found => format!("{found:?}"),
        };
        FormulaError::Unexpected { found, expected }
    }
}

/// Whether a letter may stand in the name of a point.
pub(super) fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

impl fmt::Display for Formula {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for Formula {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value(text: &str) -> Result<String, String> {
        let formula = Formula::parse(text).map_err(|error| error.to_string())?;
        let of = |name: &str| match name {
            "a" => Some(Decimal::whole(6)),
            "b" => "0.5".parse().ok(),
            "zero" => Some(Decimal::ZERO),
            _ => None,
        };
        let value = formula.value(&of).map_err(|error| error.to_string())?;
        Ok(value.to_string())
    }

    #[test]
    fn formulas_are_computed() {
        for (text, expected) in [
            ("a", "6"),
            ("a+b", "6.5"),
            (" 2 * a - 1 ", "11"),
            ("2 * (a - 1)", "10"),
            ("a - 1 - 2", "3"),
            ("a / 3 / 2", "1"),
            ("-a + 1", "-5"),
            ("2 * -b", "-1"),
            ("min(a, b, 3)", "0.5"),
            ("max(min(a, 4), b) * 1.16", "4.64"),
            ("1.16 * a * (40 - 30)", "69.6"),
        ] {
            assert_eq!(value(text), Ok(expected.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_has_no_value_says_why() {
        for (text, reason) in [
            ("a / zero", "the formula divides by zero"),
            ("a + other", "other has no value"),
            (
                "a * 99999999999999999999 * 99999999999999999999",
                "the result is too large",
            ),
        ] {
            assert_eq!(value(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_formula_is_refused() {
        for (text, part) in [
            ("", "at its end"),
            ("a +", "at its end"),
            ("a b", "\"b\""),
            ("(a", ") belongs there"),
            ("a)", "at \")\""),
            ("min()", "at \")\""),
            ("a ^ 2", "\"^ 2\""),
            ("1 + 2", "names no point"),
            ("1.2.3 * a", "\"1.2.3\""),
            ("--a", "\"-a\""),
            ("système", "at \"ème\""),
        ] {
            let error = value(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let deep = format!("{}a{}", "(".repeat(40), ")".repeat(40));
        assert_eq!(Formula::parse(&deep), Err(FormulaError::TooLarge));
        assert_eq!(
            Formula::parse(&"a+".repeat(600)),
            Err(FormulaError::TooLarge)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[-+*/(),. a-z0-9]{0,80}") {
            if let Ok(formula) = Formula::parse(&text) {
                let _value = formula.value(&|_| Some(Decimal::whole(2)));
                prop_assert_eq!(Formula::parse(&formula.to_string()), Ok(formula));
            }
        }
    }
}
