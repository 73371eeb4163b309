//! Items of which only the head is parsed. The tokens between their braces stay as written, so
//! rustc and IDEs see bodies that do not parse, too.

use proc_macro2::{Delimiter, Group, Ident, Span, TokenStream, TokenTree};
use quote::{ToTokens, TokenStreamExt, quote};
use syn::ext::IdentExt;
use syn::parse::{Parse, ParseStream};
use syn::{Attribute, Generics, Path, Signature, Token, Type, Visibility, WhereClause, token};

/// The kind of an item, with the keyword that decides it.
pub(crate) enum Item {
    Trait(TokenStream),
    Impl(TokenStream),
    Function(TokenStream),
    Other(TokenStream),
}

impl Item {
    /// Returns the kind of the item that `item` begins.
    pub(crate) fn of(item: &TokenStream) -> Item {
        let idents = item.clone().into_iter().filter_map(|token| match token {
            TokenTree::Ident(ident) if ident != "pub" => Some(ident),
            _ => None,
        });
        let mut words = idents.clone();
        let keyword = words.find(|ident| KEYWORDS.iter().any(|it| ident == it));
        let word = keyword.or(idents.clone().next());
        let kind = match &word {
            Some(word) if word == "trait" => Item::Trait,
            Some(word) if word == "impl" => Item::Impl,
            Some(word) if word == "fn" => Item::Function,
            _ => Item::Other,
        };
        kind(word.into_token_stream())
    }
}

/// The first of these words in an item decides the kind of the item. `const` and `extern` are not
/// among them, because functions can begin with these.
const KEYWORDS: [&str; 9] =
    ["trait", "impl", "fn", "struct", "enum", "union", "mod", "type", "static"];

/// A function with a body.
pub(crate) struct FunctionHead {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) vis: Visibility,
    pub(crate) sig: Signature,
    body: TokenStream,
}

impl FunctionHead {
    /// Returns whether the function has a body, and does not end in `;`.
    pub(crate) fn has_body(&self) -> bool {
        matches!(self.body.clone().into_iter().next(), Some(TokenTree::Group(_)))
    }
}

impl Parse for FunctionHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Ok(FunctionHead {
            attrs: input.call(Attribute::parse_outer)?,
            vis: input.parse()?,
            sig: input.parse()?,
            body: input.parse()?,
        })
    }
}

impl FunctionHead {
    /// Returns the function as written, without its attributes.
    pub(crate) fn bare(&self) -> impl ToTokens {
        let Self { vis, sig, body, .. } = self;
        quote!(#vis #sig #body)
    }
}

impl ToTokens for FunctionHead {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attrs);
        tokens.extend(self.bare().into_token_stream());
    }
}

/// An impl, without the `#[worker(..)]` attributes of its functions.
///
/// These attributes belong on the functions of the trait. They are kept apart, because rustc would
/// expand them and report a second error.
pub(crate) struct ImplHead {
    pub(crate) attrs: Vec<Attribute>,
    unsafety: Option<Token![unsafe]>,
    impl_token: Token![impl],
    pub(crate) generics: Generics,
    pub(crate) trait_: Option<ImplTrait>,
    pub(crate) self_ty: Type,
    body: Group,
    function_attributes: Vec<TokenStream>,
}

/// `Bank for`, or `!Bank for`.
pub(crate) struct ImplTrait {
    pub(crate) negative: Option<Token![!]>,
    pub(crate) path: Path,
    for_token: Token![for],
}

impl Parse for ImplHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        let unsafety = input.parse()?;
        let impl_token = input.parse()?;
        let mut generics: Generics = input.parse()?;
        let trait_ = if ImplTrait::follows(input) { Some(input.parse()?) } else { None };
        let self_ty = input.parse()?;
        generics.where_clause = input.parse::<Option<WhereClause>>()?;
        if !input.peek(token::Brace) {
            return Err(input.error("expected `{`"));
        }
        let (body, function_attributes) = split_worker_attributes(input.parse()?);
        Ok(ImplHead {
            attrs,
            unsafety,
            impl_token,
            generics,
            trait_,
            self_ty,
            body,
            function_attributes,
        })
    }
}

impl ImplTrait {
    fn follows(input: ParseStream) -> bool {
        input.fork().parse::<ImplTrait>().is_ok()
    }
}

impl Parse for ImplTrait {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        Ok(ImplTrait { negative: input.parse()?, path: input.parse()?, for_token: input.parse()? })
    }
}

impl ToTokens for ImplTrait {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        self.negative.to_tokens(tokens);
        self.path.to_tokens(tokens);
        self.for_token.to_tokens(tokens);
    }
}

impl ToTokens for ImplHead {
    fn to_tokens(&self, tokens: &mut TokenStream) {
        tokens.append_all(&self.attrs);
        self.unsafety.to_tokens(tokens);
        self.impl_token.to_tokens(tokens);
        self.generics.to_tokens(tokens);
        self.trait_.to_tokens(tokens);
        self.self_ty.to_tokens(tokens);
        self.generics.where_clause.to_tokens(tokens);
        self.body.to_tokens(tokens);
    }
}

impl ImplHead {
    /// Returns whether this is `impl !Trait for Type`.
    pub(crate) fn is_negative(&self) -> bool {
        self.trait_.as_ref().is_some_and(|it| it.negative.is_some())
    }

    /// Returns the `#[worker(..)]` attributes of functions, without their `#`.
    pub(crate) fn function_attributes(&self) -> &[TokenStream] {
        &self.function_attributes
    }
}

/// Splits the body of an impl into the body without `#[worker(..)]` attributes, and the contents of
/// these.
fn split_worker_attributes(body: Group) -> (Group, Vec<TokenStream>) {
    let mut attributes = Vec::new();
    let mut rest = TokenStream::new();
    let mut tokens = body.stream().into_iter().peekable();
    while let Some(token) = tokens.next() {
        match (&token, tokens.peek()) {
            (TokenTree::Punct(hash), Some(TokenTree::Group(group)))
                if hash.as_char() == '#' && is_worker_attribute(group) =>
            {
                attributes.push(group.stream());
                tokens.next();
            }
            _ => rest.append(token),
        }
    }
    if attributes.is_empty() {
        return (body, attributes);
    }
    let mut stripped = Group::new(body.delimiter(), rest);
    stripped.set_span(body.span());
    (stripped, attributes)
}

/// A struct, enum or union.
pub(crate) struct DataHead {
    pub(crate) attrs: Vec<Attribute>,
    pub(crate) ident: Ident,
    pub(crate) generics: Generics,
}

impl Parse for DataHead {
    fn parse(input: ParseStream) -> syn::Result<Self> {
        let attrs = input.call(Attribute::parse_outer)?;
        input.parse::<Visibility>()?;
        input.call(Ident::parse_any)?;
        let ident = input.parse()?;
        let mut generics: Generics = input.parse()?;
        if input.peek(token::Paren) {
            input.parse::<Group>()?;
        }
        generics.where_clause = input.parse()?;
        input.parse::<TokenStream>()?;
        Ok(DataHead { attrs, ident, generics })
    }
}

/// Returns whether `group` is `[worker]` or `[worker(..)]`, with or without a path before `worker`.
fn is_worker_attribute(group: &Group) -> bool {
    let path = |input: ParseStream| {
        let path = input.call(Path::parse_mod_style)?;
        input.parse::<TokenStream>()?;
        Ok(path)
    };
    group.delimiter() == Delimiter::Bracket
        && syn::parse::Parser::parse2(path, group.stream())
            .is_ok_and(|it| names_last(&it, "worker"))
}

/// Returns whether the last segment of `path` is `name`. Users can write our attributes and types
/// with a path.
pub(crate) fn names_last(path: &Path, name: &str) -> bool {
    path.segments.last().is_some_and(|it| it.ident.unraw() == Ident::new(name, Span::call_site()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impl_with_unparsable_body_is_kept_as_written() {
        let written = quote!(impl Bank for Ledger { fn deposit(&self) { self. } });

        let head: ImplHead = syn::parse2(written.clone()).expect("the parser skips the body");

        assert_eq!(quote!(#head).to_string(), written.to_string());
    }

    #[test]
    fn worker_attributes_of_impl_functions_are_split_off() {
        let written = quote!(impl Bank for Ledger {
            #[rpc_parallel::worker(id = "a")]
            #[inline]
            fn deposit(&self) {}
        });

        let head: ImplHead = syn::parse2(written).expect("the tokens are an impl");

        assert_eq!(head.function_attributes().len(), 1);
        let rest = quote!(impl Bank for Ledger { #[inline] fn deposit(&self) {} });
        assert_eq!(quote!(#head).to_string(), rest.to_string());
    }

    #[test]
    fn first_keyword_decides_kind_of_item() {
        assert!(matches!(
            Item::of(&quote!(
                #[a]
                pub(crate) unsafe trait T {}
            )),
            Item::Trait(_)
        ));
        assert!(matches!(Item::of(&quote!(impl T for for<'a> fn(&'a u8) {})), Item::Impl(_)));
        assert!(matches!(
            Item::of(&quote!(
                pub async fn f() -> impl T {}
            )),
            Item::Function(_)
        ));
        assert!(
            matches!(Item::of(&quote!(pub struct S;)), Item::Other(it) if it.to_string() == "struct")
        );
        assert!(
            matches!(Item::of(&quote!(static S: u8 = 0;)), Item::Other(it) if it.to_string() == "static")
        );
    }
}
