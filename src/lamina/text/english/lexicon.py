"""Word lists of general English that the rules share: function words, kin, trades, animals, places.

Closed classes are complete; open ones (trades, animals) hold the common members and are only ever used to
*allow* a reading that the grammar already suggests, so a missing word costs a slot, never a wrong one.
"""

from __future__ import annotations


def words(text: str) -> frozenset[str]:
    """The words of a list; an underscore stands for a space."""
    return frozenset(word.replace("_", " ") for word in text.split())


STOP = words("""
near among toward towards along past per beside onto outside inside
a about above across actually after again against all almost already also although always am an and another any
anymore anyone anything are around as at away back be because been before behind being below between both but by
came can cannot come could day days did do does doing done down during each either else enough especially even
ever every everyone everything far few first for from get gets getting give go goes going gone gonna good got
great had has have having he hello her here hers herself hey hi him himself his how i if in into is it its
itself just keep kind know last lately least let like little look lot lots made make makes many may maybe me
mean might mine more most much must my myself need never new next nice no none nor not nothing now of off oh ok
okay on once one ones only or other others our ours ourselves out over own pretty probably put quite rather
really right said same saw say says see seem seems seen shall she should since so some someone something
sometimes soon still such sure take taken than thank thanks that the their theirs them themselves then there
these they thing things think this those though thought through till time to together told too took totally try
under until up upon us use used usually very want wanted was way we well went were what when where whether which
while who whole whom whose why will with within without would wow yeah yes yet you your yours yourself
""")
OPENERS = words("""
oh well yeah yes yep yup no nope hey hi hello so and but also honestly anyway anyways actually btw ok okay wow
haha lol hmm ah aww aw ooh um uh plus then anyhow frankly basically hooray yay sorry look listen finally guess
sure right now absolutely definitely totally thanks thank_you and_so news
""")
ADVERBS = words("""
now currently just recently still also actually really finally already always usually probably definitely only
both all even truly totally absolutely basically simply honestly literally officially mostly mainly sometimes
often rarely soon then ever once again too kinda sorta almost nearly personally lately presently nowadays
originally so happily proudly fully newly slowly quickly quite super pretty
""")
# Names that are also verbs, modals or months: before a verb or a possessive they are somebody.
WORD_NAMES = words("""
april art august bill bob chase dawn dean drew faith frank grace grant hope hunter jack josh joy june lance mark mason
max may miles nick pat penny ray reed rob rose skip sue summer wade will
""")
# What follows "New" in a place's name, for the start of a sentence, where any word has its capital.
NEW_PLACES = words("""
bedford britain brunswick caledonia delhi england guinea hampshire haven jersey mexico orleans plymouth south
westminster york zealand
""")
SPEAKER_WORDS = words("i we")
PRONOUNS = words("i we he she they it you")
THIRD = words("he she they it")
RELATIONS = words("""
mother mom mum mama father dad papa parents parent sister brother sibling son daughter kid child baby wife
husband spouse partner girlfriend boyfriend fiance fiancé fiancee fiancée grandmother grandma granny nana
grandfather grandpa grandson granddaughter aunt auntie uncle niece nephew cousin stepmother stepmom stepfather
stepdad stepson stepdaughter roommate flatmate housemate friend bestie neighbour neighbor boss colleague
coworker manager mentor teacher coach therapist doctor ex landlord twin
""")
MALE_KIN = words("""
father dad papa brother son husband boyfriend fiance fiancé grandfather grandpa grandson uncle nephew stepfather
stepdad stepson landlord
""")
FEMALE_KIN = words("""
mother mom mum mama sister daughter wife girlfriend fiancee fiancée grandmother grandma granny nana granddaughter aunt
auntie niece stepmother stepmom stepdaughter
""")
PARTNERS = words("wife husband spouse girlfriend boyfriend fiance fiancé fiancee fiancée partner")
ANIMALS = words("""
dog cat puppy kitten rabbit bunny hamster parrot bird budgie canary cockatiel fish goldfish turtle tortoise
snake lizard gecko horse pony goat sheep pig cow hen chicken duck goose ferret rat mouse gerbil hedgehog iguana
chinchilla llama alpaca donkey retriever labrador lab poodle beagle bulldog husky corgi terrier dachshund
shepherd collie pug spaniel tabby greyhound chihuahua guinea_pig
""")
# Things a person has for long enough that their number is a trait, unlike meetings or ideas.
COUNTABLE = ANIMALS | words("""
kid child son daughter sibling brother sister grandchild grandkid grandson granddaughter nephew niece cousin
stepchild pet car bike bicycle motorbike motorcycle truck van boat house flat apartment plant houseplant tree
guitar piano violin drum instrument computer laptop phone tablet monitor camera console tattoo piercing roommate
flatmate housemate bedroom bathroom employee tenant twin
""")
OCCUPATIONS = words("""
accountant actor actress actuary analyst anthropologist archaeologist architect archivist artist associate
astronaut astronomer attorney auditor author baker banker barber barista bartender biologist blacksmith boss
bookkeeper botanist bricklayer broker builder butcher captain caretaker carer carpenter cashier ceo cfo
chauffeur chef chemist chiropractor cleaner clerk coach columnist comedian composer concierge conductor
consultant contractor controller cook coordinator copywriter counselor counsellor courier cto curator dancer
dentist dermatologist designer detective developer dietitian director dispatcher diver doctor drummer driver
economist editor electrician engineer entrepreneur executive farmer filmmaker financier firefighter fisherman
florist foreman forester freelancer gardener geologist geographer goldsmith groomer guard guide guitarist
hairdresser handyman historian housekeeper illustrator inspector instructor interpreter investigator investor
janitor jeweler jeweller journalist judge laborer labourer landscaper lawyer lecturer librarian lifeguard
linguist locksmith logistician machinist manager marketer mason massage_therapist mathematician mechanic
mediator meteorologist microbiologist midwife miner minister model musician nanny neurologist novelist nurse
nutritionist officer operator optician optometrist painter paralegal paramedic pastor pathologist pediatrician
pharmacist philosopher photographer physician physicist physiotherapist pianist pilot plumber poet policeman
policewoman politician porter postman potter president priest principal producer professor programmer prosecutor
psychiatrist psychologist publicist radiologist ranger realtor receptionist recruiter referee reporter
representative researcher roofer sailor salesman salesperson saleswoman scientist sculptor seamstress secretary
server shepherd shopkeeper singer sociologist soldier specialist statistician steward stockbroker strategist
streamer stylist supervisor surgeon surveyor tailor teacher technician technologist therapist tiler trader
trainer translator tutor tester undertaker upholsterer usher vet veterinarian videographer violinist waiter
waitress warden watchmaker welder woodworker worker writer zookeeper zoologist intern apprentice trainee
administrator assistant partner deputy head chief lead vp dean
""")
LANGUAGES = words("""
afrikaans albanian amharic arabic armenian basque bengali bosnian bulgarian catalan cantonese chinese croatian
czech danish dutch english esperanto estonian farsi finnish flemish french gaelic georgian german greek gujarati
hebrew hindi hungarian icelandic igbo indonesian irish italian japanese kannada korean kurdish latin latvian
lithuanian malay maltese mandarin marathi mongolian nepali norwegian pashto persian polish portuguese punjabi
romanian russian serbian slovak slovenian somali spanish swahili swedish tagalog tamil telugu thai tibetan
turkish ukrainian urdu vietnamese welsh xhosa yiddish yoruba zulu asl
""")
INSTRUMENTS = words("""
accordion bagpipes banjo bass bassoon cello clarinet cornet didgeridoo drums flute guitar harmonica harp
harpsichord horn keyboard keyboards lute lyre mandolin marimba oboe organ percussion piano piccolo recorder sax
saxophone sitar synth synthesizer tambourine trombone trumpet tuba ukulele viola violin xylophone
""")
SPORTS = words("""
badminton baseball basketball billiards bowling chess cricket darts football golf handball hockey lacrosse
netball paintball pickleball polo pool rugby snooker soccer softball squash tennis ultimate volleyball
""")
HABITS = words("""
smoke vape drink drive run swim jog cycle bike paint dance sing meditate ski snowboard surf knit sew bake garden
box row sail climb fish hunt volunteer kayak sketch fence
""")
# What a product is, for "I use X": the few dozen everyone names without saying what they are.
PRODUCTS = {
    name: category
    for category, names in {
        "phone": "iphone android pixel galaxy blackberry nokia oneplus",
        "browser": "chrome firefox safari edge brave opera vivaldi",
        "editor": "vim neovim emacs vscode vs_code pycharm intellij sublime nano notepad++ zed",
        "system": "windows macos linux ubuntu debian fedora arch chromeos",
        "laptop": "macbook thinkpad chromebook xps surface",
        "music service": "spotify tidal deezer pandora apple_music youtube_music",
        "notes app": "evernote obsidian notion onenote bear apple_notes google_keep",
        "mail": "gmail outlook thunderbird proton protonmail yahoo fastmail",
        "messenger": "whatsapp signal telegram slack discord",
    }.items()
    for name in (word.replace("_", " ") for word in names.split())
}  # fmt: skip
# Tools that are no places either, but of which one uses several: they fill no slot by themselves.
TOOLS = frozenset(PRODUCTS) | words("""
airtable asana aws azure basecamp bitbucket clickup confluence docker excel figma gcp github gitlab heroku hubspot
java javascript jenkins jira kotlin kubernetes linear mastodon mongodb monday.com mysql netlify numpy pandas php
postgres postgresql power_bi python pytorch react redis reddit rust salesforce sharepoint shopify sketch snowflake
sqlite squarespace swift tableau teams tensorflow terraform threads trello twitter typescript vercel vue webex
wordpress xero youtrack zendesk zoom
""")
# Parts of cities: whoever says one after the other has not moved.
_DISTRICTS = {
    "berlin": "charlottenburg friedrichshain kreuzberg mitte moabit neukölln neukoelln pankow prenzlauer_berg "
    "schöneberg spandau tempelhof wedding",
    "new york": "astoria bronx brooklyn bushwick chelsea harlem manhattan queens soho staten_island tribeca "
    "williamsburg long_island_city",
    "london": "brixton camden chelsea clapham croydon ealing greenwich hackney hammersmith hampstead islington "
    "kensington lambeth lewisham notting_hill peckham shoreditch soho southwark stratford tottenham wimbledon",
    "paris": "belleville le_marais marais montmartre montparnasse bastille pigalle",
    "los angeles": "hollywood venice echo_park silver_lake santa_monica koreatown westwood",
    "san francisco": "haight mission_district noe_valley sunset_district soma castro",
    "chicago": "hyde_park lincoln_park logan_square pilsen wicker_park",
    "boston": "back_bay dorchester jamaica_plain roxbury charlestown",
    "seattle": "ballard capitol_hill fremont",
    "tokyo": "shibuya shinjuku asakusa ginza roppongi meguro setagaya",
    "vienna": "leopoldstadt neubau josefstadt favoriten ottakring",
    "hamburg": "altona eimsbüttel st._pauli ottensen",
    "munich": "schwabing giesing haidhausen",
    "barcelona": "gràcia gracia eixample raval poblenou",
    "madrid": "malasaña chueca lavapiés lavapies",
    "rome": "trastevere testaccio",
    "lisbon": "alfama bairro_alto",
    "amsterdam": "jordaan de_pijp",
    "istanbul": "kadıköy kadikoy beyoğlu",
    "toronto": "scarborough etobicoke kensington_market",
    "mumbai": "bandra andheri juhu",
    "sydney": "bondi newtown surry_hills",
    "melbourne": "fitzroy st_kilda brunswick",
}
DISTRICTS = {(part.replace("_", " "), city) for city, parts in _DISTRICTS.items() for part in parts.split()} | {
    (part.replace("_", " "), "new york city") for part in _DISTRICTS["new york"].split()
}
CATEGORIES = {
    "car": "car", "truck": "car", "ride": "car", "vehicle": "car", "phone": "phone", "mobile": "phone",
    "laptop": "laptop", "computer": "computer", "tablet": "tablet", "camera": "camera", "browser": "browser",
    "web browser": "browser", "editor": "editor",
    "text editor": "editor", "ide": "editor", "operating system": "system", "os": "system",
    "bank": "bank", "gym": "gym", "doctor": "doctor", "dentist": "dentist", "bike": "bike", "keyboard": "keyboard",
    "notes app": "notes app", "music service": "music service", "search engine": "search engine", "gp": "doctor",
    "insurer": "insurer", "internet provider": "internet provider", "phone provider": "phone provider",
}  # fmt: skip
REGIONS = words("""
africa asia europe america north_america south_america antarctica oceania scandinavia england scotland wales
northern_ireland uk united_kingdom britain great_britain us usa united_states states afghanistan albania algeria
andorra angola argentina armenia australia austria azerbaijan bahamas bahrain bangladesh barbados belarus
belgium belize benin bhutan bolivia bosnia botswana brazil brunei bulgaria burundi cambodia cameroon canada chad
chile china colombia congo costa_rica croatia cuba cyprus czechia czech_republic denmark dominica ecuador egypt
el_salvador eritrea estonia ethiopia fiji finland france gabon gambia germany ghana greece grenada guatemala
guinea guyana haiti honduras hungary iceland india indonesia iran iraq ireland israel italy ivory_coast jamaica
japan jordan kazakhstan kenya kosovo kuwait kyrgyzstan laos latvia lebanon lesotho liberia libya liechtenstein
lithuania luxembourg madagascar malawi malaysia maldives mali malta mauritania mauritius mexico moldova monaco
mongolia montenegro morocco mozambique myanmar namibia nepal netherlands holland new_zealand nicaragua niger
nigeria north_korea north_macedonia norway oman pakistan palestine panama paraguay peru philippines poland
portugal qatar romania russia rwanda samoa saudi_arabia senegal serbia seychelles sierra_leone singapore
slovakia slovenia somalia south_africa south_korea korea spain sri_lanka sudan suriname sweden switzerland syria
taiwan tajikistan tanzania thailand togo tonga tunisia turkey turkmenistan uganda ukraine uae
united_arab_emirates uruguay uzbekistan vanuatu venezuela vietnam yemen zambia zimbabwe alabama alaska arizona
arkansas california colorado connecticut delaware florida georgia hawaii idaho illinois indiana iowa kansas
kentucky louisiana maine maryland massachusetts michigan minnesota mississippi missouri montana nebraska nevada
new_hampshire new_jersey new_mexico new_york_state north_carolina north_dakota ohio oklahoma oregon pennsylvania
rhode_island south_carolina south_dakota tennessee texas utah vermont virginia washington_state west_virginia
wisconsin wyoming bavaria catalonia tuscany ontario quebec alberta british_columbia
""")
