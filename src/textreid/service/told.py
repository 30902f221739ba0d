"""What the program tells every caller alike, in English, and the page shows: errors, notes, and words of its own.

An answer of the API has them as they are. The page finds the text that one came from, and shows that in its language
(`languages.Language.said`). ``%(name)s`` stands for what a text is filled with; a test holds each of them to the text
of the program.
"""

_NOTES = (
    "the query does not read as English, and the model reads English: scores may mean nothing",
    "the model has not learned this word: %(words)s",
    "the model has not learned these words: %(words)s",
    "%(word)s in a query hardly counts, and what follows it does: use --without",
    "without %(thing)s: hardly has an effect: the bundled model does not tell %(kind)s apart",
    "bags and what is carried",
    "hats, glasses and scarves",
)
_ERRORS = (
    "the query has no words: describe a person, as in 'a woman in a red jacket'",
    "no crop %(number)s: it was deleted, never was, or is not yours to see",
    "no saved search %(number)s: it was deleted, never was, or is not yours",
    "no job %(number)s: it never was, or is not yours to see",
    "purpose: say what this search is for, as a case number; this service asks for it",
    "since %(since)s is not before until %(until)s",
    "hours: expected two different hours of the day, as in 13-18, not %(hours)s",
    "cursor: %(text)s is not what a page gave",
    "after: %(text)s is not what a page gave",
    "name: a saved search needs a name of letters and digits",
    "name: you have a saved search %(name)s already; delete it first, or take another name",
    "you have %(most)s saved searches, and may not have more; delete one first",
    "your account does not have the scope %(scope)s",
    "this form is not of your session any more; load the page again",
    "too many requests; wait a little",
    "too many requests at once; try again in a few seconds",
    "another export takes long; try again in a few seconds",
    "others upload now; try again in a few seconds",
    "this service takes no uploads",
    "camera: a name has at most 100 signs that can be printed",
    "camera: name one of the cameras that you may see",
    "files: nothing was sent",
    "files: one video at a time, not %(count)s",
    "%(name)s: expected a name that ends in one of %(endings)s",
    "%(name)s: not a video of the form that its name tells",
    "%(name)s: larger than %(size)s MiB",
    "%(name)s: not the plain name of a file",
    "%(count)s uploads wait to be indexed already; try again later",
    "the gallery cannot answer this now; its log says why",
    "the database of the gallery cannot be used now; try again, and ask the administrator",
    "a fault of textreid; its log says more",
    "audit log: entry %(number)s is missing; the next one is %(next)s",
    "audit log: entry %(number)s was changed, or one before it",
)
_STATES = ("waiting", "running", "done", "failed", "cancelled")
_KINDS = ("crops", "photographs", "video")
_ACTIONS = (
    "search", "similar", "view", "track", "export", "erase", "upload", "cancel job", "save search", "delete search",
    "set alert", "retry alert", "sign-in", "sign-in refused",
)  # fmt: skip
_FILTERS = ("cameras", "since", "until", "hours", "tags", "sources", "exclude")
_LOOKS = ("crop", "picture", "frame", "thumbnail")
TOLD: tuple[str, ...] = (*_NOTES, *_ERRORS, *_STATES, *_KINDS, *_ACTIONS, *_FILTERS, *_LOOKS)
