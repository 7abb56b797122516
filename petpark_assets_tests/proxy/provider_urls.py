"""The provider's addresses (provider.py)."""

from django.contrib.auth.views import LoginView
from django.urls import include, path

urlpatterns = [path("o/", include("oauth2_provider.urls")), path("users/login/", LoginView.as_view())]
