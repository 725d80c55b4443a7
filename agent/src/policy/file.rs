//! The shape of `policy.yaml` and of the files of `policy.d/`: which keys there are, and nothing of what values mean.
//!
//! The same types write a policy out again, so that what `ctsync check` prints is what the files could have said.

mod schema;

use crate::config::file::written;
use crate::config::spanned::Spanned;
use schemars::JsonSchema;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::marker::PhantomData;

#[derive(Debug, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "policy.yaml")]
pub struct File {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub builtins: Option<Named<BuiltinWord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub services: Option<Named<Service>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rules: Option<Vec<Spanned<Rule>>>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Service {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<Words>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ports: Option<Words>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub icmp_types: Option<Words>,
    pub r#type: Option<Spanned<String>>,
    pub sync: Option<Spanned<SyncWord>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Spanned<String>>,
    pub hold: Option<Spanned<HoldWord>>,
}

#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<Spanned<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Words>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub destination: Option<Words>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub zone: Option<Spanned<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mark: Option<Words>,
    /// Known only to be refused with a better word than "unknown".
    #[schemars(skip)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<Spanned<String>>,
    pub service: Spanned<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BuiltinWord {
    /// Judged by rules and services, as any other flow.
    On,
    /// Left out.
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SyncWord {
    Always,
    Never,
    Delayed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum HoldWord {
    Always,
    Auto,
    Never,
}

/// Values by name, in the order of the file, each name with its place.
#[derive(Debug)]
pub struct Named<T>(pub Vec<(Spanned<String>, T)>);

/// One word or a list of them; numbers are words too.
#[derive(Debug)]
pub struct Words(pub Vec<Spanned<Word>>);

/// A word or a number, as it is written.
#[derive(Debug)]
pub struct Word(pub String);

impl Words {
    /// As nobody wrote them.
    pub fn of(words: impl IntoIterator<Item = impl fmt::Display>) -> Self {
        let word = |word: &dyn fmt::Display| written(Word(word.to_string()));
        Self(words.into_iter().map(|it| word(&it)).collect())
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Named<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
            type Value = Named<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names with what they mean")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Named<T>, A::Error> {
                let mut named = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    named.push(entry);
                }
                Ok(Named(named))
            }
        }

        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

impl<T: Serialize> Serialize for Named<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(&name.value, value)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Words {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        /// What stands there, before its place is known.
        enum Written {
            One(String),
            Several(Vec<Spanned<Word>>),
        }

        struct OneOrSeveral;

        impl<'de> Visitor<'de> for OneOrSeveral {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("one value or a list of them")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Written, E> {
                Ok(Written::One(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Written, E> {
                Ok(Written::One(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Written, E> {
                Ok(Written::One(number.to_string()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Written, A::Error> {
                let mut words = Vec::new();
                while let Some(word) = list.next_element()? {
                    words.push(word);
                }
                match words.is_empty() {
                    true => Err(de::Error::custom("an empty list matches nothing")),
                    false => Ok(Written::Several(words)),
                }
            }
        }

        impl<'de> Deserialize<'de> for Written {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_any(OneOrSeveral)
            }
        }

        let Spanned { value, referenced } = Spanned::deserialize(deserializer)?;
        Ok(Self(match value {
            Written::One(word) => vec![Spanned {
                value: Word(word),
                referenced,
            }],
            Written::Several(words) => words,
        }))
    }
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Scalar;

        impl Visitor<'_> for Scalar {
            type Value = Word;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a word or a number")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Word, E> {
                Ok(Word(text.to_owned()))
            }

            fn visit_u64<E: de::Error>(self, number: u64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }

            fn visit_i64<E: de::Error>(self, number: i64) -> Result<Word, E> {
                Ok(Word(number.to_string()))
            }
        }

        deserializer.deserialize_any(Scalar)
    }
}

impl Serialize for Words {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.value.serialize(serializer),
            several => serializer.collect_seq(several.iter().map(|word| &word.value)),
        }
    }
}

impl Serialize for Word {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.parse::<u64>() {
            Ok(number) => number.serialize(serializer),
            Err(_) => self.0.serialize(serializer),
        }
    }
}
