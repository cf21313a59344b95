"""Questions about the older of two statements that both hold: where a memory that prefers the newer one is wrong.

For each line of ``standing_sayings.COEXISTING``, in its order and with its placeholders, a question that its first
statement answers and its second does not. ``--`` parts the halves as there.
"""

QUESTIONS = """What did I say about my brother {p}?
Do I like {d}?
When was I in {c}?
Do I know any Spanish?
Do nuts agree with me?
What do I say about Rex?
Where does {p} live?
Where does my mother work?
Which instrument do I play?
Where did {p} move to?
Which bicycle did I buy?
Where did I meet {p}?
What did I go to with {p}?
Am I learning Italian?
What does my uncle do for a living?
When do I fly to {c}?
What do I drink in the morning?
Do I want to see {c}?
Could I ever move to {c}?
Whose car park did I use?
--
Where does my sister {p} work?
Do I love {d}?
How long was I in {c}?
Can I read Arabic?
Do I own a canoe?
Do I have a daughter called {p}?
Whom do I know in {c}?
What happened to my neighbour {p}?
How do I feel about waiting?
Who from {f} did I have lunch with?
What did I study in {c}?
What is the novel about that I'm reading?
What does {p} eat?
What is {p}'s phone number?
On which day do I swim?
When do I meet {p}?
In which city are my parents?
What was my brother's job?
Where would I love to live?
How many nights was I in {c}?"""
