//! Types as written, spaces removed: what ids are hashed from.
//!
//! It walks the tokens itself, since how the compiler prints them may change with its version,
//! and ids must not.

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;

/// The tokens' text without any space between them.
pub(crate) fn text(tokens: impl ToTokens) -> String {
    let mut text = String::new();
    write(&mut text, tokens.into_token_stream());
    text
}

fn write(text: &mut String, tokens: TokenStream) {
    for token in tokens {
        match token {
            TokenTree::Group(group) => {
                // Types passed through `macro_rules!` come in groups that have no brackets.
                let (open, close) = match group.delimiter() {
                    Delimiter::Parenthesis => ("(", ")"),
                    Delimiter::Bracket => ("[", "]"),
                    Delimiter::Brace => ("{", "}"),
                    Delimiter::None => ("", ""),
                };
                text.push_str(open);
                write(text, group.stream());
                text.push_str(close);
            }
            TokenTree::Ident(ident) => text.push_str(&ident.to_string()),
            TokenTree::Punct(punct) => text.push(punct.as_char()),
            TokenTree::Literal(literal) => text.push_str(&literal.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quote::quote;

    #[test]
    fn a_type_has_no_spaces() {
        let written = quote!(&[HashMap<String, (u8, [u16; 3])>]);

        assert_eq!(text(written), "&[HashMap<String,(u8,[u16;3])>]");
    }

    #[test]
    fn a_type_from_another_macro_reads_like_one_written_by_hand() {
        let group = proc_macro2::Group::new(Delimiter::None, quote!(Vec<u8>));

        assert_eq!(text(quote!(Option<#group>)), "Option<Vec<u8>>");
    }
}
