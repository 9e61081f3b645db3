//! The comments in the source of this project.
//!
//! Parses only the structure of Rust: which comments belong to what. Does not depend on their contents
//! or use.

use syn::parse::{Parse, ParseStream, Parser as _};
use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, File, Ident, Item, Lit, LitStr, Meta, Token, braced};

use crate::harness::root;

/// Returns the text of a file of the project.
pub(crate) fn text(path: &str) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Reads a file of Rust.
pub(crate) fn file(path: &str) -> File {
    syn::parse_file(&text(path)).unwrap()
}

/// Returns a doc comment as one line.
pub(crate) fn doc(attributes: &[Attribute]) -> String {
    let lines = attributes.iter().filter_map(|attribute| {
        let Meta::NameValue(pair) = &attribute.meta else {
            return None;
        };
        match &pair.value {
            Expr::Lit(text) if pair.path.is_ident("doc") => match &text.lit {
                Lit::Str(text) => Some(text.value().trim().to_owned()),
                _ => None,
            },
            _ => None,
        }
    });
    lines.collect::<Vec<_>>().join(" ").trim().to_owned()
}

/// An enum of which every variant has one spelling, made by the macro `string_enum`.
pub(crate) struct Spelled {
    /// Its name in messages and labels.
    pub(crate) what: String,
    /// Spellings and their doc comments.
    pub(crate) values: Vec<(String, String)>,
}

/// Returns all such enums of a file.
pub(crate) fn string_enum(path: &str) -> Vec<Spelled> {
    let items = file(path).items.into_iter();
    let calls = items.filter_map(|item| match item {
        Item::Macro(call) if call.mac.path.is_ident("string_enum") => Some(call.mac.tokens),
        _ => None,
    });
    calls
        .map(|tokens| Spelled::parse.parse2(tokens).unwrap())
        .collect()
}

impl Parse for Spelled {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Attribute::parse_outer(input)?;
        input.parse::<Ident>()?;
        input.parse::<Token![,]>()?;
        let what = input.parse::<LitStr>()?.value();
        let variants;
        braced!(variants in input);
        let values = Punctuated::<(String, String), Token![,]>::parse_terminated_with(
            &variants,
            |variant: ParseStream| {
                let comment = Attribute::parse_outer(variant)?;
                variant.parse::<Ident>()?;
                variant.parse::<Token![=]>()?;
                Ok((variant.parse::<LitStr>()?.value(), doc(&comment)))
            },
        )?;
        let values = values.into_iter().collect();
        Ok(Self { what, values })
    }
}
