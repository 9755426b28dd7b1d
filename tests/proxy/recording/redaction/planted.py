"""Secrets to be planted, none of them real: by rule. Pieced together, so that scanners of source code find nothing."""

A = "Ab3" * 30
SECRETS: dict[str, tuple[str, ...]] = {
    "key": (
        "AKIA" + "IOSFODNN7EXAMPLE",
        "sk-" + f"proj-{A[:40]}",
        "sk-ant-" + f"api03-{A[:60]}",
        "gh" + f"p_{A[:36]}",
        "github" + f"_pat_{A[:60]}",
        "glpat" + f"-{A[:20]}",
        "xoxb" + f"-123456789012-{A[:24]}",
        "hf" + f"_{A[:34]}",
        "AIza" + A[:35],
        "sk_" + f"live_{A[:24]}",
        "eyJ" + "hbGciOiJIUzI1NiJ9.eyJ" + "zdWIiOiIxMjM0In0.dozjgNryP4J3jVmNHl0w5N",
        "-----BEGIN RSA PRIVATE" + f" KEY-----\n{A}\n{A}\n-----END RSA PRIVATE" + " KEY-----",
    ),
    "card": ("4111 1111 1111 1111", "5500-0000-0000-0004", "378282246310005", "6011.1111.1111.1117"),
    "iban": ("DE89 3704 0044 0532 0130 00", "GB82WEST12345698765432", "fr1420041010050500013m02606"),
    "email": ("ada.lovelace+1@example.org", "zoë@exämple.org", "x_y%z@mail.a-b.example"),
    "phone": (
        "+44 20 7946 0958",
        "(555) 010-4477",
        "020 7946 0958",
        "030/9018200",
        "0049 30 9018200",
        "01 42 68 53 00",
    ),
}
ALL = [(rule, secret) for rule, secrets in SECRETS.items() for secret in secrets]
