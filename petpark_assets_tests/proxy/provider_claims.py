"""What the provider says of a person (provider.py): their name and their groups."""

from typing import Any, ClassVar

from oauth2_provider.oauth2_validators import OAuth2Validator


class WithGroups(OAuth2Validator):
    """Groups are a claim of the scope `groups`, as in Keycloak, Entra ID and Okta."""

    oidc_claim_scope: ClassVar[dict[str, str]] = {**OAuth2Validator.oidc_claim_scope, "groups": "groups"}

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        """For the ID token and for the userinfo endpoint."""
        groups = sorted(request.user.groups.values_list("name", flat=True))
        return {"preferred_username": request.user.username, "groups": groups}
