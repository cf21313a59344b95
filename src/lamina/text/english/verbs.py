"""English verb forms: enough morphology to find a clause's verb and to turn "I live" into "Anna lives".

Regular forms follow the spelling rules; the irregular verbs are a table of ``base past participle``. ``FORMS`` maps
every form of a known verb to its lemma and kind; words it does not know are judged by their endings.
"""

from __future__ import annotations

from typing import Literal

from lamina.text.english.lexicon import words

Form = Literal["base", "s", "past", "participle", "ing"]

_IRREGULAR = """
arise arose arisen|awake awoke awoken|beat beat beaten|become became become|begin began begun|bend bent bent
bet bet bet|bite bit bitten|bleed bled bled|blow blew blown|break broke broken|breed bred bred
bring brought brought|build built built|burn burnt burnt|buy bought bought|catch caught caught
choose chose chosen|cling clung clung|come came come|cost cost cost|creep crept crept|cut cut cut
deal dealt dealt|dig dug dug|draw drew drawn|dream dreamt dreamt|drink drank drunk|drive drove driven
eat ate eaten|fall fell fallen|feed fed fed|feel felt felt|fight fought fought|find found found|fly flew flown
forget forgot forgotten|forgive forgave forgiven|freeze froze frozen|get got gotten|give gave given|go went gone
grow grew grown|hang hung hung|hear heard heard|hide hid hidden|hit hit hit|hold held held|hurt hurt hurt
keep kept kept|know knew known|lay laid laid|lead led led|learn learnt learnt|leave left left|lend lent lent
let let let|lie lay lain|light lit lit|lose lost lost|make made made|mean meant meant|meet met met|pay paid paid
put put put|quit quit quit|read read read|ride rode ridden|ring rang rung|rise rose risen|run ran run
say said said|see saw seen|seek sought sought|sell sold sold|send sent sent|set set set|shake shook shaken
shine shone shone|shoot shot shot|show showed shown|shut shut shut|sing sang sung|sink sank sunk|sit sat sat
sleep slept slept|speak spoke spoken|spend spent spent|spill spilt spilt|spin spun spun|split split split
spread spread spread|stand stood stood|steal stole stolen|stick stuck stuck|strike struck struck
swear swore sworn|sweep swept swept|swim swam swum|swing swung swung|take took taken|teach taught taught
tear tore torn|tell told told|think thought thought|throw threw thrown|understand understood understood
upset upset upset|wake woke woken|wear wore worn|win won won|wind wound wound|write wrote written
"""
_REGULAR = """
abandon accept file add adopt adore agree aim allow answer apply appreciate arrange arrive ask attend avoid bake
believe book borrow call cancel care carry celebrate change check clean climb close collect compose cook
continue cook cover cry cycle dance date decide delay describe design detest develop die dislike ditch divorce
donate download drop earn end enjoy enrol enroll exchange enter exercise expect explain explore finish fish fix
follow garden graduate guess handle happen hate help hike hire hope identify imagine improve intend introduce
invite jog join jump juggle kayak knit laugh laugh learn like listen live loathe look love major manage marry
meditate mention migrate miss move name need notice offer open order organise organize own pack paint park pass
perform photograph plan plant play postpone practise practice prefer prepare push qualify raise reach realise
realize receive record relax relocate remember retrain rent repair replace reply report reschedule reside resign
retire return review sail save schedule scrap seem settle share shift ship shop sign sketch ski skip smoke
snowboard sound start stay stop struggle study suffer suggest support suppose surf swap switch talk text thank
touch tour trade train transfer transition travel treat try turn type update upgrade use vape visit volunteer
wait walk want wash watch wed weld wish wonder work worry achieve admire afford announce apologise apologize
assume attach bother breathe brush challenge chase chat chill collaborate comfort compare compete complain
complete concentrate confirm connect contact contain contribute cope count create cuddle damage deliver depend
deserve destroy disagree discover discuss dress edit email encourage escape experiment express fail fancy fit
force gain gather grab greet heal host hug hunt impress include inspire install invest invite involve kick kiss
knock lack last lift lock log mail map mark match measure mix mow nap obtain occur perform phone pick pour pray
produce propose protect prove provide publish purchase race recommend recover recycle refuse regret release rely
remind remove research rest reward risk roast rush scare score search serve shout smile snack spot sprain stare
stretch surprise suspect tackle taste tend test tidy track translate trip trust tutor unpack unwind view vote
warn waste water wrap yell adjust advise appear behave belong boost bounce budget capture chop combine commute
conquer convince cross dedicate deepen donate drain embrace empower engage ensure establish expand face figure
fill focus foster fuel guide hang honor honour hurry ignore implement inform interact launch lean maintain
master motivate navigate network nurture observe overcome pause persevere pitch play prefer process promote
pursue rock savor savour seek solve spark stock store strengthen switch thrive transform trick value welcome
whip widen
"""
BE = {
    "am": "present",
    "is": "present",
    "are": "present",
    "was": "past",
    "were": "past",
    "be": "base",
    "been": "participle",
}
BE |= {"being": "ing", "'m": "present", "'re": "present"}
HAVE = {"have": "present", "has": "present", "had": "past", "having": "ing"}
DO = {"do": "present", "does": "present", "did": "past", "doing": "ing"}
MODALS = frozenset({"will", "would", "can", "could", "may", "might", "shall", "should", "must", "cannot"})
_VOWELS = frozenset("aeiou")
# Verbs of one stressed short syllable double their last letter: stop, stopped.
_DOUBLING = words("""
beg chat grab map occur scrap spot wrap drop fit get hug jog knit let nap plan put quit rub run ship shop sit
skip split stop swap swim travel trim wed win
""")
_NO_VERB_ING = words("""
thing things nothing something anything everything king ring wing spring string morning evening during wedding
building ceiling sibling siblings amazing interesting exciting boring challenging rewarding inspiring relaxing
willing darling feeling meaning
""")


def third_person(base: str) -> str:
    """live -> lives, go -> goes, try -> tries, watch -> watches; be, have and do included."""
    special = {"be": "is", "have": "has", "do": "does", "go": "goes"}
    if base in special:
        return special[base]
    if base.endswith(("s", "x", "z", "ch", "sh", "o")):
        return base + "es"
    if base.endswith("y") and base[-2:-1] not in _VOWELS:
        return base[:-1] + "ies"
    return base + "s"


def _gerund(base: str) -> str:
    if base.endswith("ie"):
        return base[:-2] + "ying"
    if base.endswith("e") and not base.endswith(("ee", "oe", "ye")):
        return base[:-1] + "ing"
    return (base + base[-1] if base in _DOUBLING else base) + "ing"


def _past(base: str) -> str:
    if base.endswith("e"):
        return base + "d"
    if base.endswith("y") and base[-2:-1] not in _VOWELS:
        return base[:-1] + "ied"
    return (base + base[-1] if base in _DOUBLING else base) + "ed"


def _forms() -> dict[str, tuple[str, Form]]:
    forms: dict[str, tuple[str, Form]] = {}
    irregular = [entry.split() for entry in _IRREGULAR.replace("\n", "|").split("|") if entry]
    known = {base for base, _, _ in irregular}
    rows = [(base, _past(base), _past(base)) for base in dict.fromkeys(_REGULAR.split()) if base not in known]
    rows += [(base, past, participle) for base, past, participle in irregular]
    rows += [(b, _past(b), _past(b)) for b in ("burn", "dream", "learn", "spill")]
    rows += [(b, f"{b}led", f"{b}led") for b in ("cancel", "travel", "model", "label")]  # British spelling
    for base, past, participle in rows:
        for word, kind in (
            (participle, "participle"),
            (past, "past"),
            (_gerund(base), "ing"),
            (third_person(base), "s"),
        ):
            forms[word] = (base, kind)  # type: ignore[assignment]
        if base != past:
            forms[base] = (base, "base")
    return forms


FORMS = _forms()
PARTICIPLES = frozenset(entry.split()[2] for entry in _IRREGULAR.replace("\n", "|").split("|") if entry) | {
    "been",
    "had",
    "done",
    "got",
}


def form(word: str) -> Form | Literal[""]:
    """Which form of a known verb a word is; empty for other words."""
    return FORMS[word][1] if word in FORMS else ""


def is_base(word: str) -> bool:
    """Whether a word can follow "to" or "will" as a verb. Verbs whose past looks the same count."""
    return form(word) == "base" or word in ("be", "have", "do") or (word in FORMS and FORMS[word][0] == word)


def is_ing_verb(word: str) -> bool:
    """Whether a word in -ing is likely a verb form (not "morning" or "exciting")."""
    if word in FORMS:
        return FORMS[word][1] == "ing"
    return len(word) > 4 and word.endswith("ing") and word not in _NO_VERB_ING


def is_participle(word: str) -> bool:
    """Whether a word can follow "have" in the perfect."""
    return word in PARTICIPLES or (word.endswith("ed") and len(word) > 4)


def lemma(word: str) -> str:
    """The base form of a verb; unknown verbs lose their ending by the spelling rules."""
    if word in FORMS:
        return FORMS[word][0]
    if word.endswith("ing") and len(word) > 5:
        return _undouble(word[:-3])
    if word.endswith("ied"):
        return word[:-3] + "y"
    if word.endswith("ed") and len(word) > 4:
        return _undouble(word[:-2])
    if word.endswith("s") and not word.endswith("ss") and len(word) > 3:
        return word[:-1]
    return word


def _undouble(stem: str) -> str:
    double = len(stem) > 3 and stem[-1] == stem[-2] and stem[-1] not in "lsz"
    return stem[:-1] if double else stem
