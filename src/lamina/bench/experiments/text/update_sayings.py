"""What people say when something about them changed: the sentences behind ``knowledge_updates``.

Twelve attributes. A line is ``old | new``, with ``| question`` where the attribute's own would not fit; ``{a}``
and ``{b}`` stand for two different values of the attribute. Three kinds of phrasing:

* canonical: the attribute is said outright, as in a form;
* paraphrase: talk that says it in other words. Written by imagining conversations, before and apart from the
  rules they test, and not revised since;
* implicit: the new value has to be inferred, so a rule that doubts is right to miss it.

``--`` parts the development half (above) from the held-out half (below). Rules may be calibrated on the first;
only the second is reported.
"""

from __future__ import annotations

from typing import NamedTuple


class Saying(NamedTuple):
    """An attribute: its question, its values, and its ``old | new`` lines by phrasing, development half first."""

    question: str
    values: str
    canonical: str
    paraphrase: str
    implicit: str


SAYINGS: dict[str, Saying] = {
    "residence": Saying(
        "Where do I live?",
        "Boston, Lisbon, Leeds, Denver, Oslo, Austin, Turin, Krakow, Ghent, Bristol, Porto, Tucson",
        """I live in {a}. | I live in {b} now.
I live in {a}. | I moved to {b} last month.
--
I'm living in {a}. | I've moved to {b}.
My home is in {a}. | I live in {b} now.""",
        """I've been in {a} for six years and still love it. | Well, I'm a {b} resident as of this weekend!
We bought a house in {a} back in 2019. | We sold up and bought a cottage in {b}.
I rent a studio in {a}, two minutes from the tram. | I signed the lease on a flat in {b}, boxes are everywhere.
After the army I ended up in {a}. | I've swapped {a} for {b} and I don't miss it.
Our family is settled in {a}. | The whole family has upped sticks and gone to {b}.
{a} is where I hang my hat these days. | I packed up my life and shipped it to {b}.
--
I've got a small place in {a} with a balcony. | I got a new place in {b}, it's twice the size.
I came to {a} for university and never left. | I finally left {a}, so it's {b} from here on.
I share a house in {a} with two friends. | I'm all moved in here in {b}, the neighbours brought cake.
We're raising the kids in {a}. | We've been living in {b} since the summer, the kids adore it.
I'm a {a} local, ask me for tips. | As of Monday I officially call {b} home.
My wife and I stay in {a}, near her parents. | We up and relocated the household to {b} in spring.""",
        """I live in {a}. | I had to register with the town hall here in {b} and get a new library card.
I live in {a}. | The landlord in {b} is far nicer than my last one.
--
I live in {a}. | My walk home now takes me along the main square of {b}.
I live in {a}. | I still get lost on my way home, {b} is such a maze.""",
    ),
    "employer": Saying(
        "Where do I work?",
        "Siemens, Ikea, Philips, Vodafone, Lufthansa, Nestle, Barclays, Airbus, Unilever, Ericsson, Bosch, Zalando",
        """I work at {a}. | I work at {b} now.
I work for {a}. | I started working for {b} last week.
--
I'm employed by {a}. | I work at {b} now.
I work at {a}. | I got a new job at {b}.""",
        """I'm in the logistics team at {a}. | I've joined {b}, they gave me the team I wanted.
{a} took me on straight after school. | {b} made me an offer and I start there today.
I have a desk job with {a}. | I walked out of {a} and into a job with {b}.
I earn my living at {a}. | My badge says {b} now, no regrets.
I've spent ten years with {a}. | I left {a} for {b} in January.
I'm on the payroll of {a}. | I quit {a}, {b} pays a lot better.
--
I've been with {a} since I finished school. | I jumped ship to {b} and the people are lovely.
I do sales over at {a}. | {b} hired me, so I'm selling for them these days.
My employer is {a}, for better or worse. | I've got a new employer, it's {b}.
I spend my weekdays in the {a} office. | I accepted a position with {b} and today was day one.
I'm a project lead with {a}. | I was poached by {b}, my last day at {a} was Friday.
I'm working nights at {a} right now. | No more nights: I'm over at {b} since Monday.""",
        """I work at {a}. | My new boss at {b} brings her dog to the office.
I work at {a}. | The canteen at {b} is so much better than the one I was used to.
--
I work at {a}. | The onboarding at {b} took three whole days.
I work at {a}. | My colleagues at {b} threw me a welcome lunch.""",
    ),
    "title": Saying(
        "What is my job?",
        "nurse, teacher, plumber, chef, baker, lawyer, designer, librarian, surveyor, translator, pilot, carpenter",
        """I'm a {a}. | I'm a {b} now.
I work as a {a}. | I work as a {b} now.
--
My job title is {a}. | My job title is {b}.
I am a {a}. | I started working as a {b}.""",
        """I trained as a {a} and that's what I do. | I've gone back to school and come out a {b}.
By trade I'm a {a}. | I changed careers, I'm a {b} these days.
I make my money as a {a}. | I've become a {b}, who would have thought.
I've been a {a} for most of my life. | I gave up being a {a} and became a {b}.
People know me as the {a} on our street. | My business card now reads {b}.
I earn a crust as a {a}. | They've taken me on as a {b}.
--
I'm a {a} by profession. | I retrained and now I'm a {b}.
I have a job as a {a}. | I got myself a job as a {b}.
My day job is being a {a}. | My day job has changed: I'm a {b}.
I've always been a {a}, like my mother. | I'm no longer a {a}, I work as a {b} instead.
I pay the rent working as a {a}. | Since March I've been working as a {b}.
I qualified as a {a} in 2015. | I switched from being a {a} to being a {b}.""",
        """I'm a {a}. | My first week in the {b} job was exhausting.
I'm a {a}. | I passed the last exam, so they let me practise as a {b}.
--
I'm a {a}. | I was so proud to see the word {b} on my contract.
I'm a {a}. | All my friends want free help since I do this {b} thing full time.""",
    ),
    "marital": Saying(
        "Am I married, engaged, divorced or single?",
        "x, y",
        """I'm single. | I'm engaged now.
I'm married. | I got divorced last week.
--
I'm engaged. | I got married on Saturday.
I am single. | I'm married now.""",
        """I'm on my own, no partner. | I have a husband now, can you believe it?
My wife and I are very happy. | My wife filed for divorce and it's final.
I wear an engagement ring. | We had our wedding on Sunday and it was perfect.
I'm a bachelor. | I'm a married man as of last weekend.
I've been married for twelve years. | My marriage ended, I'm on my own again.
We're engaged to be married. | We called off the engagement.
--
I'm not seeing anybody at the moment. | I got engaged, the ring is gorgeous.
We've been husband and wife since 2010. | We are getting used to being divorced.
My fiance and I are choosing rings. | We finally said our vows, we're husband and wife.
I'm unattached and fine with it. | Someone put a ring on it, I'm engaged!
I'm happily married with a mortgage. | I'm separated, he moved out in May.
I'm a divorcee. | I remarried in the spring.""",
        """I'm single. | The wedding photos came back from the printer, we look so happy.
I'm married. | The judge signed the last of the papers and I kept the house.
--
I'm engaged. | The honeymoon was two weeks of rain and we did not care.
I'm married. | I took off my ring for good and changed my surname back.""",
    ),
    "partner": Saying(
        "Who is my partner?",
        "Anna, Marco, Julia, Peter, Nadia, Oscar, Clara, Simon, Irene, Victor, Paula, Dominic",
        """My partner is {a}. | My partner is {b} now.
I'm dating {a}. | I'm dating {b} now.
--
My partner's name is {a}. | My partner's name is {b}.
I'm in a relationship with {a}. | I'm in a relationship with {b} now.""",
        """{a} and I have been together for two years. | {a} and I split up, I'm with {b} now.
I live for my weekends with {a}, love of my life. | It's {b} I'm in love with these days.
I'm going out with {a}. | I'm going out with {b} these days.
I have been with {a} since college. | I left {a} for {b}.
My other half is {a}. | My other half these days is {b}.
I'm head over heels for {a}, we're a couple. | {b} and I are a couple now.
--
I'm with {a}, we met at a concert. | I'm with {b} now, things with {a} ended.
{a} and I are an item. | {b} and I are together now.
My significant other is called {a}. | I broke up with {a}, and {b} is my new partner.
{a} is my better half. | {b} is my better half nowadays.
I've been dating {a} since last year. | I've started dating {b}.
I share my life with {a}. | I share my life with {b} now that {a} is gone.""",
        """My partner is {a}. | {b} cooked for our three month anniversary, how sweet.
My partner is {a}. | I brought {b} home to meet my parents, as my date.
--
My partner is {a}. | {b} gave me a key to the flat, so it's getting serious between us.
My partner is {a}. | For Valentine's Day {b} took me dancing.""",
    ),
    "phone": Saying(
        "What is my phone number?",
        "555-0101, 555-0123, 555-0145, 555-0167, 555-0189, 555-0111, 555-0132, 555-0154, 555-0176, 555-0198",
        """My phone number is {a}. | My phone number is {b}.
My cell is {a}. | My new number is {b}.
--
My number is {a}. | My number is {b} now.
You can reach me at {a}. | You can reach me at {b} now.""",
        """If you need me, dial {a}. | If you need me, dial {b} from now on.
My mobile has always been {a}. | I switched carriers, so it's {b} for calls.
The best line for me is {a}. | The best line for me has become {b}.
I'm on {a} during the day. | I'm on {b} now, the old line is off.
Put me down under {a}. | Please change my contact to {b}.
You'll get me on {a}. | You'll get me on {b} instead.
--
Give me a ring on {a}. | Give me a ring on {b} from today.
Just phone me, it's {a}. | My number has changed, it's {b}.
Messages reach me at {a}. | Messages reach me at {b} these days.
You can always call me at {a}. | Please call me at {b} from now on.
My digits are {a}. | Update my digits to {b}.
For emergencies I'm at {a}. | I have a new phone number, {b}, delete the old one.""",
        """My phone number is {a}. | I had to print new cards with {b} on them.
My phone number is {a}. | The clinic texts my reminders to {b} these days.
--
My phone number is {a}. | The new SIM came today and the sticker says {b}.
My phone number is {a}. | My phone was stolen, and the shop handed me {b} as a replacement.""",
    ),
    "email": Saying(
        "What is my email address?",
        "kay@foo.org, kay@bar.net, k.lund@mail.io, kl@post.eu, kaylund@web.de, hi@kay.me, kay77@box.com, lund@uni.edu",
        """My email is {a}. | My email is {b}.
My email address is {a}. | My new email address is {b}.
--
My e-mail is {a}. | My e-mail is {b} now.
You can email me at {a}. | You can email me at {b} now.""",
        """Mail goes to {a} if you want to reach me. | Mail goes to {b} from now on.
Send the files over to {a}. | Send my files over to {b} in future.
My inbox is {a}. | My inbox has moved to {b}.
I read everything that lands at {a}. | I only read what lands at {b} now.
Write to me at {a}. | Write to me at {b} instead.
I use {a} for everything online. | I gave up {a} and use {b} for everything.
--
Drop me a line at {a}. | Drop me a line at {b} from now on.
My personal account is {a}. | I switched my account to {b}.
Invitations should be sent to {a}. | Invitations should be sent to {b} from today.
I'm on email as {a}. | I changed my email, it's {b}.
Contact me under {a} please. | Contact me under {b} please, {a} is closed.
Anything important, {a} is the address. | New address for email: {b}.""",
        """My email is {a}. | The university gave me {b} and shut the other mailbox.
My email is {a}. | I'm setting up forwarding so that everything ends up at {b}.
--
My email is {a}. | I typed {b} into every form at the office today.
My email is {a}. | My provider went bankrupt, so I registered {b} tonight.""",
    ),
    "diet": Saying(
        "What kind of diet do I follow?",
        "vegan, vegetarian, pescatarian",
        """I'm {a}. | I'm {b} now.
I follow a {a} diet. | I follow a {b} diet now.
--
I am on a {a} diet. | I am on a {b} diet now.
I eat {a}. | I switched to a {b} diet.""",
        """I don't eat meat. | I eat meat again.
I've been {a} since my teens. | I've gone {b} this year.
I keep to {a} food. | I'm doing {b} these days.
I only cook {a}. | I gave up being {a}, {b} suits me better.
I eat everything. | I've stopped eating meat altogether.
I'm a strict {a}. | I've become a {b}.
--
I swear by {a} eating. | I went {b} in January and feel great.
I don't touch meat or fish. | I'm eating fish and meat again.
My diet has been {a} for ages. | My diet is {b} these days.
I've been a {a} for years. | I turned {b} over the winter.
I'll eat anything you put in front of me. | I cut out all animal products.
I stick to a {a} diet. | I'm no longer {a}, I'm on a {b} diet.""",
        """I'm vegan. | That steak last night was the best I've had this year.
I'm vegetarian. | I had salmon and then oysters, as I do every week now.
--
I'm vegan. | I fry two eggs every morning these days.
I eat keto. | I have pasta for lunch every day and bread with dinner.""",
    ),
    "favourite": Saying(
        "What is my favourite dish?",
        "lasagne, ramen, paella, goulash, tacos, pierogi, moussaka, risotto, sushi, curry, couscous, dumplings",
        """My favourite dish is {a}. | My favourite dish is {b} now.
My favourite food is {a}. | My favourite food is {b} these days. | What is my favourite food?
--
My favourite meal is {a}. | My favourite meal is {b} now. | What is my favourite meal?
My favorite dish is {a}. | My favorite dish is {b}.""",
        """Nothing beats {a}, best dish there is. | Nothing beats {b} any more, it's my new favourite dish.
{a} is my favourite dish of all. | {b} has replaced {a} as my favourite dish.
The dish I love most is {a}. | The dish I love most these days is {b}.
Of all dishes I like {a} best. | Of all dishes I now like {b} best.
My number one dish is {a}. | My number one dish is {b} now.
My go-to dish is {a}. | My go-to dish has become {b}.
--
{a} is my favourite thing to eat. | {b} is my favourite thing to eat now. | What is my favourite thing to eat?
If I had to pick one dish, I'd say {a} is my favourite. | I changed my mind, my favourite dish is {b}.
For me {a} is the best dish in the world. | For me {b} is the best dish in the world now.
My all-time favourite dish is {a}. | My new favourite dish is {b}.
I prefer {a} over any other dish. | I prefer {b} over any other dish now.
I call {a} my favourite dish. | I used to love {a} most, but {b} is my favourite dish now.""",
        """My favourite dish is {a}. | I ordered {b} for my birthday, nothing comes close to it these days.
My favourite dish is {a}. | I could eat {b} every single day and skip everything else.
--
My favourite dish is {a}. | For my last meal on earth I'd ask for {b} without thinking.
My favourite dish is {a}. | I dream about {b} at night, {a} has lost its charm.""",
    ),
    "count": Saying(
        "How many cats do I have?",
        "two, three, four, five, six",
        """I have {a} cats. | I have {b} cats now.
I own {a} cats. | I own {b} cats now.
--
I've got {a} cats. | I've got {b} cats now.
I have {a} cats. | Now I have {b} cats.""",
        """There are {a} cats in my flat. | There are {b} cats in my flat now.
I share my flat with {a} cats. | I share my flat with {b} cats these days.
My {a} cats run the house. | My {b} cats run the house now.
I feed {a} cats of my own. | I feed {b} cats of my own now.
I'm the owner of {a} cats. | I'm now the owner of {b} cats.
I keep {a} cats. | I keep {b} cats these days.
--
I'm a cat lady with {a} cats. | The shelter talked me into more, so I have {b} cats.
We're a household of {a} cats. | We're up to {b} cats.
I look after my {a} cats. | I look after my {b} cats now.
I live with {a} cats. | I live with {b} cats now.
In total I have {a} cats. | In total I'm at {b} cats now.
My home has {a} cats in it. | That makes {b} cats at my home now.""",
        """I have two cats. | A third cat followed me home and I kept it.
I have three cats. | One of my cats passed away and I buried it in the garden.
--
I have two cats. | We adopted a kitten as well, so the old ones are jealous.
I have four cats. | I found a new home for one of the cats.""",
    ),
    "uses": Saying(
        "Which editor do I use?",
        "VS Code, Neovim, Emacs, Sublime Text, PyCharm, Zed",
        """I use {a}. | I switched from {a} to {b}.
My editor is {a}. | My editor is {b} now.
--
I use {a} as my editor. | I use {b} as my editor now.
I use {a}. | I moved from {a} to {b}.""",
        """I write all my code in {a}. | I write all my code in {b} now.
I'm a {a} person. | I'm a {b} person now, I dropped {a}.
My code editor of choice is {a}. | My code editor of choice is {b} these days.
I do my programming in {a}. | I ditched {a} and program in {b}.
I rely on {a} for editing. | I replaced {a} with {b}.
I live in {a} all day when coding. | I abandoned {a} in favour of {b}.
--
I code in {a}. | I code in {b} these days.
I've been using {a} for years as my editor. | I've started using {b} instead of {a}.
My main editor is {a}. | My main editor is {b} now.
{a} is the editor I use. | {b} is the editor I use now.
I edit everything with {a}. | I traded {a} for {b}.
I stick with {a} for my work. | I stopped using {a}, it's {b} for me now.""",
        """My editor is {a}. | I spent the weekend moving all my shortcuts over to {b}.
My editor is {a}. | I cancelled my old plugins, since {b} has them built in.
--
My editor is {a}. | I can finally type without thinking about it in {b}, so {a} is off the disk.
My editor is {a}. | Everybody in my team laughs at my new love for {b}.""",
    ),
    "plan": Saying(
        "When is my dentist appointment?",
        "3 June, 9 June, 14 June, 21 June, 28 June, 2 July, 8 July, 15 July, 19 July, 27 July",
        """My dentist appointment is on {a}. | My dentist appointment is on {b} now.
My dentist appointment is on {a}. | My dentist appointment has been moved to {b}.
--
I have a dentist appointment on {a}. | My dentist appointment was moved to {b}.
My dentist appointment is on {a}. | My dentist appointment has been rescheduled to {b}.""",
        """I'm due at the dentist on {a}, dreading the appointment. | They pushed my dentist appointment back to {b}.
The dentist appointment is booked for {a}. | The dentist appointment got shifted to {b}.
The dentist can see me on {a}. | The dentist can't make it, my appointment is on {b} instead.
I put the dentist appointment in for {a}. | I rescheduled the dentist appointment for {b}.
My dentist appointment falls on {a}. | My dentist appointment now falls on {b}.
I've got the dentist on {a}. | I moved the dentist to {b}.
--
I'm seeing the dentist on {a}. | I had to postpone the dentist appointment to {b}.
My dentist appointment is set for {a}. | My dentist appointment is set for {b} now.
I made a dentist appointment for {a}. | I changed my dentist appointment to {b}.
The dentist expects me on {a}. | The dentist expects me on {b} now.
There's a dentist appointment for me on {a}. | The dentist appointment was put off until {b}.
I booked the dentist for {a}. | The dentist called, the appointment is now on {b}.""",
        """My dentist appointment is on {a}. | I have to be off work on {b} for my teeth, the other day fell through.
My dentist appointment is on {a}. | The receptionist at the dentist could only offer {b} after the strike.
--
My dentist appointment is on {a}. | The practice was closed that day, so my teeth get looked at on {b}.
My dentist appointment is on {a}. | The dentist's card on the fridge has {b} written over the old date.""",
    ),
}
