"""Pairs of sentences that hold side by side, for ``knowledge_updates``: nothing of them may be closed or merged.

A line is ``one | other``. Coexisting pairs speak of different things, near pairs differ in one number or name and both
say something. ``--`` parts the development half from the held-out half, as in ``update_sayings``.
"""

COEXISTING = """I have a brother named {p}. | I have a brother named {q}.
I like {d}. | I like {e}.
I visited {c} in the spring. | I visited {b} in the autumn.
I speak Spanish. | I speak German.
I'm allergic to nuts. | I'm allergic to cats' hair.
I have a dog named Rex. | I adopted a second dog, called Bruno.
My friend {p} lives in {c}. | My friend {q} lives in {b}.
My mother works at {f}. | My cousin works at {g}.
I play the piano. | I play chess on Fridays.
{p} moved to {c}. | I helped {p} with the boxes in {b}.
I bought a red bicycle. | I bought a green tent.
I met {p} at the gym. | I met {q} at the library.
I went to a concert with {p}. | I went to the theatre with {q}.
I'm learning Italian. | I'm learning to dance tango.
My uncle is a {j}. | My aunt is a {k}.
I have a flight to {c} on 4 August. | I have a flight to {b} on 20 August.
I drink tea in the morning. | I drink coffee after lunch.
I want to visit {c}. | I want to visit {b}.
I might move to {c} one day. | If I could, I'd work at {f}.
I used the dentist's car park. | I used a ladder to reach the roof.
--
My sister {p} works at {f}. | My sister {q} works at {g}.
I love {d}. | I love {e} too.
I spent a week in {c}. | I spent a long weekend in {b}.
I can read Arabic. | I can read Greek.
I own a canoe. | I own a sewing machine.
My daughter is called {p}. | My other daughter is called {q}.
I know a {j} in {c}. | I know a {k} in {b}.
My neighbour {p} got married. | My neighbour {q} got divorced.
I hate waiting. | I hate flying.
I had lunch with {p} from {f}. | I had lunch with {q} from {g}.
I studied biology in {c}. | I did an internship at {g}.
I'm reading a novel about {c}. | I'm reading a book on gardening.
{p} is vegan. | {q} eats everything.
{p}'s phone number is 555-7001. | {q}'s phone number is 555-7002.
I swim on Tuesdays. | I go climbing on Thursdays.
I have a meeting with {p} on 5 August. | I have a meeting with {q} on 12 August.
My parents live in {c}. | My grandparents live in {b}.
My brother was a {j}. | My colleague {q} is a {k}.
I'd love to live in {c}. | {p} says she wants to work for {f}.
I stayed in {c} for two nights. | I gave a talk in {b}."""

NEAR = """I ran {n} km with {p} today. | I ran {m} km with {p} today.
I ran 10 km with {p} today. | I ran 10 km with {q} today.
I paid {n} euros for theatre tickets. | I paid {m} euros for theatre tickets.
I sold my old lamp to {p}. | I sold my old lamp to {q}.
I watched {n} films with my aunt. | I watched {m} films with my aunt.
I baked a cake for {p}. | I baked a cake for {q}.
--
I walked {n} miles along the river. | I walked {m} miles along the river.
I played tennis with {p} after work. | I played tennis with {q} after work.
I donated {n} books to the school. | I donated {m} books to the school.
I wrote a letter to {p}. | I wrote a letter to {q}.
I picked {n} apples in the garden. | I picked {m} apples in the garden.
I called {p} about the party. | I called {q} about the party."""

FILL: dict[str, str] = {
    "p q": "Tessa, Ralf, Imani, Bruno, Yuki, Pablo, Greta, Anton, Selma, Hugo",
    "c b": "Vienna, Madrid, Prague, Dublin, Naples, Seville, Helsinki, Geneva",
    "f g": "Renault, Nokia, Shell, Adidas, Carlsberg, Danone",
    "j k": "dancer, farmer, jeweller, painter, locksmith, gardener",
    "d e": "jazz, hiking, pottery, opera, sailing, knitting, karaoke, birdwatching",
    "n m": "12, 21, 14, 41, 15, 51, 17, 31, 18, 81",
}
"""Values of the placeholders in ``COEXISTING`` and ``NEAR``; the two letters of a key take different ones."""
